"""The metadata of a MODIS granule in ODL: StructMetadata.0, CoreMetadata.0, ArchiveMetadata.0."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lstsr.products.hdfeos import FieldDefinition
from keras_lstsr.simulate.place import TileGrid

STRUCT_METADATA_BYTES = 32000
"""HDF-EOS2 reserves this much for the attribute and pads it with NUL."""

Value = str | int | float | Sequence[str] | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class Granule:
    """What the metadata of a simulated granule say.

    Attributes:
        product: Short name, e.g. ``"MOD11A1"``.
        long_name: The product's full name.
        parameter_name: ECS parameter name.
        grid: Where the granule lies.
        acquisition_date: Day of the observation.
        cloud_percent: Share of all pixels that are cloudy.
        additional: Product-specific attributes, e.g. ``QAPERCENTGOODQUALITY``.
        package_name: Name of the algorithm package.
        software: Who wrote the file, e.g. ``"keras-lstsr 0.1.0 simulate"``.
    """

    product: str
    long_name: str
    parameter_name: str
    grid: TileGrid
    acquisition_date: dt.date
    cloud_percent: float
    additional: Mapping[str, str]
    package_name: str
    software: str

    @property
    def production_time(self) -> dt.datetime:
        """A fixed time on the next day: a clock would make every run another file."""
        moment = dt.datetime.combine(self.acquisition_date, dt.time(10, 53, 20))
        return moment + dt.timedelta(days=1)

    @property
    def file_name(self) -> str:
        """Name by NASA's convention, e.g. ``MOD11A1.A2021191.h18v04.061.2021192105320.hdf``."""
        acquired = self.acquisition_date.strftime("A%Y%j")
        produced = self.production_time.strftime("%Y%j%H%M%S")
        return f"{self.product}.{acquired}.{self.grid.tile}.061.{produced}.hdf"


def struct_metadata(
    grid_name: str, height: int, width: int, grid: TileGrid, fields: Iterable[FieldDefinition]
) -> str:
    """Writes the attribute from which HDF-EOS2 takes the grid and its fields.

    Args:
        grid_name: HDF-EOS grid name.
        height: Rows.
        width: Columns.
        grid: Outer bounds.
        fields: The grid's fields.

    Returns:
        The text, padded with NUL to 32000 bytes.
    """
    west, south, east, north = grid.coarse.bounds
    lines = [
        "GROUP=SwathStructure",
        "END_GROUP=SwathStructure",
        "GROUP=GridStructure",
        "\tGROUP=GRID_1",
        f'\t\tGridName="{grid_name}"',
        f"\t\tXDim={width}",
        f"\t\tYDim={height}",
        f"\t\tUpperLeftPointMtrs=({west:.6f},{north:.6f})",
        f"\t\tLowerRightMtrs=({east:.6f},{south:.6f})",
        "\t\tProjection=GCTP_SNSOID",
        "\t\tProjParams=(6371007.181000,0,0,0,0,0,0,0,86400,0,0,0,0)",
        "\t\tSphereCode=-1",
        "\t\tGridOrigin=HDFE_GD_UL",
        "\t\tGROUP=Dimension",
        "\t\tEND_GROUP=Dimension",
        "\t\tGROUP=DataField",
    ]
    for number, field in enumerate(fields, start=1):
        lines += [
            f"\t\t\tOBJECT=DataField_{number}",
            f'\t\t\t\tDataFieldName="{field.name}"',
            f"\t\t\t\tDataType=DFNT_{field.dtype.upper()}",
            '\t\t\t\tDimList=("YDim","XDim")',
            f"\t\t\tEND_OBJECT=DataField_{number}",
        ]
    lines += [
        "\t\tEND_GROUP=DataField",
        "\t\tGROUP=MergedFields",
        "\t\tEND_GROUP=MergedFields",
        "\tEND_GROUP=GRID_1",
        "END_GROUP=GridStructure",
        "GROUP=PointStructure",
        "END_GROUP=PointStructure",
        "END",
    ]
    return ("\n".join(lines) + "\n").ljust(STRUCT_METADATA_BYTES, "\0")


class _OdlWriter:
    """Writes groups and objects with NASA's indentation."""

    def __init__(self) -> None:
        self._lines: list[str] = [""]
        self._open: list[tuple[str, str]] = []

    def _line(self, key: str, value: str) -> None:
        self._lines.append(f"{'  ' * len(self._open)}{key:<22} = {value}")

    def open(self, kind: str, name: str, **values: str) -> None:
        self._line(kind, name)
        self._open.append((kind, name))
        for key, value in values.items():
            self._line(key, value)
        self._lines.append("")

    def close(self) -> None:
        kind, name = self._open.pop()
        self._line(f"END_{kind}", name)
        self._lines.append("")

    def value(self, name: str, value: Value, class_number: int | None = None) -> None:
        items = [value] if isinstance(value, str | int | float) else list(value)
        texts = [f'"{item}"' if isinstance(item, str) else str(item) for item in items]
        text = f"({', '.join(texts)})" if len(texts) > 1 else texts[0]
        self._line("OBJECT", name)
        self._open.append(("OBJECT", name))
        self._line("NUM_VAL", str(len(items)))
        if class_number is not None:
            self._line("CLASS", f'"{class_number}"')
        self._line("VALUE", text)
        self.close()

    def values(
        self, group: str, entries: Mapping[str, Value], class_number: int | None = None
    ) -> None:
        self.open("GROUP", group)
        for name, value in entries.items():
            self.value(name, value, class_number)
        self.close()

    def text(self) -> str:
        return "\n".join([*self._lines, "END", ""])


def core_metadata(granule: Granule) -> str:
    """Writes the inventory metadata: who, what, when, where, how good."""
    odl = _OdlWriter()
    odl.open("GROUP", "INVENTORYMETADATA", GROUPTYPE="MASTERGROUP")
    odl.values(
        "ECSDATAGRANULE",
        {
            "LOCALGRANULEID": granule.file_name,
            "PRODUCTIONDATETIME": f"{granule.production_time:%Y-%m-%dT%H:%M:%S}.000Z",
            "DAYNIGHTFLAG": "Both",
            "REPROCESSINGACTUAL": "reprocessed",
            "LOCALVERSIONID": granule.software,
            "REPROCESSINGPLANNED": "further update is anticipated",
        },
    )
    _measured_parameter(odl, granule)
    odl.values("COLLECTIONDESCRIPTIONCLASS", {"VERSIONID": 61, "SHORTNAME": granule.product})
    _spatial_domain(odl, granule.grid)
    date = granule.acquisition_date.isoformat()
    odl.values(
        "RANGEDATETIME",
        {
            "RANGEENDINGDATE": date,
            "RANGEENDINGTIME": "23:59:59",
            "RANGEBEGINNINGDATE": date,
            "RANGEBEGINNINGTIME": "00:00:00",
        },
    )
    odl.values("PGEVERSIONCLASS", {"PGEVERSION": granule.software})
    odl.open("GROUP", "ASSOCIATEDPLATFORMINSTRUMENTSENSOR")
    odl.open("OBJECT", "ASSOCIATEDPLATFORMINSTRUMENTSENSORCONTAINER", CLASS='"1"')
    odl.value("ASSOCIATEDSENSORSHORTNAME", "MODIS", 1)
    odl.value("ASSOCIATEDPLATFORMSHORTNAME", "Terra", 1)
    odl.value("ASSOCIATEDINSTRUMENTSHORTNAME", "MODIS", 1)
    odl.close()
    odl.close()
    _additional_attributes(odl, granule)
    odl.close()
    return odl.text()


def _measured_parameter(odl: _OdlWriter, granule: Granule) -> None:
    odl.open("GROUP", "MEASUREDPARAMETER")
    odl.open("OBJECT", "MEASUREDPARAMETERCONTAINER", CLASS='"1"')
    odl.values(
        "QAFLAGS",
        {
            "SCIENCEQUALITYFLAG": "Not Investigated",
            "AUTOMATICQUALITYFLAGEXPLANATION": "Simulated: quality is what the simulation says.",
            "AUTOMATICQUALITYFLAG": "Passed",
            "SCIENCEQUALITYFLAGEXPLANATION": "Simulated scene, not a measurement.",
        },
        1,
    )
    odl.values(
        "QASTATS",
        {
            "QAPERCENTMISSINGDATA": 0,
            "QAPERCENTOUTOFBOUNDSDATA": 0,
            "QAPERCENTCLOUDCOVER": round(granule.cloud_percent),
            "QAPERCENTINTERPOLATEDDATA": 0,
        },
        1,
    )
    odl.value("PARAMETERNAME", granule.parameter_name, 1)
    odl.close()
    odl.close()


def _spatial_domain(odl: _OdlWriter, grid: TileGrid) -> None:
    longitudes, latitudes = grid.corner_degrees()
    odl.open("GROUP", "SPATIALDOMAINCONTAINER")
    odl.open("GROUP", "HORIZONTALSPATIALDOMAINCONTAINER")
    odl.open("GROUP", "GPOLYGON")
    odl.open("OBJECT", "GPOLYGONCONTAINER", CLASS='"1"')
    odl.values(
        "GRINGPOINT",
        {
            "GRINGPOINTLONGITUDE": _rounded(longitudes),
            "GRINGPOINTLATITUDE": _rounded(latitudes),
            "GRINGPOINTSEQUENCENO": [1, 2, 3, 4],
        },
        1,
    )
    odl.values("GRING", {"EXCLUSIONGRINGFLAG": "N"}, 1)
    for _ in range(4):
        odl.close()


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(np.round(value, 10)) for value in values]


def _additional_attributes(odl: _OdlWriter, granule: Granule) -> None:
    tile = granule.grid
    entries = {
        **granule.additional,
        "HORIZONTALTILENUMBER": f"{tile.h:02d}",
        "VERTICALTILENUMBER": f"{tile.v:02d}",
        "TileID": f"51{tile.h:03d}{tile.v:03d}",
        "SIMULATED": "YES",
        "identifier_product_doi": f"10.5067/MODIS/{granule.product}.061",
        "identifier_product_doi_authority": "http://dx.doi.org",
    }
    odl.open("GROUP", "ADDITIONALATTRIBUTES")
    for number, (name, value) in enumerate(entries.items(), start=1):
        odl.open("OBJECT", "ADDITIONALATTRIBUTESCONTAINER", CLASS=f'"{number}"')
        odl.value("ADDITIONALATTRIBUTENAME", name, number)
        odl.values("INFORMATIONCONTENT", {"PARAMETERVALUE": value}, number)
        odl.close()
    odl.close()


def archive_metadata(granule: Granule) -> str:
    """Writes the archive metadata: tile, project, processing and bounding rectangle."""
    longitudes, latitudes = granule.grid.corner_degrees()
    tile = {
        "HORIZONTALTILENUMBER": f"{granule.grid.h:02d}",
        "VERTICALTILENUMBER": f"{granule.grid.v:02d}",
    }
    odl = _OdlWriter()
    odl.open("GROUP", "ARCHIVEDMETADATA", GROUPTYPE="MASTERGROUP")
    odl.values("TILEINFO", tile)
    odl.values(
        "ALGORITHMPACKAGE",
        {
            "ALGORITHMPACKAGEMATURITYCODE": "Normal",
            "ALGORITHMPACKAGENAME": granule.package_name,
            "ALGORITHMPACKAGEVERSION": "6",
        },
    )
    odl.values(
        "PROJECT",
        {
            "LONGNAME": granule.long_name,
            "INSTRUMENTNAME": "Moderate-Resolution Imaging SpectroRadiometer",
        },
    )
    odl.value("PROCESSINGCENTER", granule.software)
    odl.value("PROCESSINGDATETIME", f"{granule.production_time:%Y-%m-%dT%H:%M:%S}.000Z")
    odl.values(
        "BOUNDINGRECTANGLE",
        {
            "NORTHBOUNDINGCOORDINATE": _rounded([max(latitudes)])[0],
            "SOUTHBOUNDINGCOORDINATE": _rounded([min(latitudes)])[0],
            "EASTBOUNDINGCOORDINATE": _rounded([max(longitudes)])[0],
            "WESTBOUNDINGCOORDINATE": _rounded([min(longitudes)])[0],
        },
    )
    odl.value("PROCESSINGENVIRONMENT", granule.software)
    odl.value("DESCRREVISION", "6.1")
    odl.close()
    return odl.text()
