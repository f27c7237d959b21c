"""The metadata of a MODIS granule in ODL: StructMetadata.0, CoreMetadata.0, ArchiveMetadata.0."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        package_name: Name of the algorithm package.
        grid: Where the granule lies.
        acquisition_date: Day of the observation.
        quality_shares: Of all pixels, 0…1: good, other, not produced under cloud, and elsewhere.
        software: Who wrote the file, e.g. ``"keras-lstsr 0.1.0 simulate"``.
    """

    product: str
    long_name: str
    parameter_name: str
    package_name: str
    grid: TileGrid
    acquisition_date: dt.date
    quality_shares: Sequence[float]
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
    """Writes the attribute from which HDF-EOS2 takes the grid and its fields, padded with NUL."""
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
        self._depth = 0

    def _line(self, key: str, value: str) -> None:
        self._lines.append(f"{'  ' * self._depth}{key:<22} = {value}")

    @contextmanager
    def part(self, kind: str, name: str, **values: str) -> Iterator[None]:
        self._line(kind, name)
        self._depth += 1
        for key, value in values.items():
            self._line(key, value)
        self._lines.append("")
        yield
        self._depth -= 1
        self._line(f"END_{kind}", name)
        self._lines.append("")

    def value(self, name: str, value: Value, class_number: int | None = None) -> None:
        items = [value] if isinstance(value, str | int | float) else list(value)
        texts = [f'"{item}"' if isinstance(item, str) else str(item) for item in items]
        text = f"({', '.join(texts)})" if len(texts) > 1 else texts[0]
        self._line("OBJECT", name)
        self._depth += 1
        self._line("NUM_VAL", str(len(items)))
        if class_number is not None:
            self._line("CLASS", f'"{class_number}"')
        self._line("VALUE", text)
        self._depth -= 1
        self._line("END_OBJECT", name)
        self._lines.append("")

    def values(
        self, group: str, entries: Mapping[str, Value], class_number: int | None = None
    ) -> None:
        with self.part("GROUP", group):
            for name, value in entries.items():
                self.value(name, value, class_number)

    def text(self) -> str:
        return "\n".join([*self._lines, "END", ""])


def core_metadata(granule: Granule) -> str:
    """Writes the inventory metadata: who, what, when, where, how good."""
    odl = _OdlWriter()
    date = granule.acquisition_date.isoformat()
    with odl.part("GROUP", "INVENTORYMETADATA", GROUPTYPE="MASTERGROUP"):
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
        with (
            odl.part("GROUP", "ASSOCIATEDPLATFORMINSTRUMENTSENSOR"),
            odl.part("OBJECT", "ASSOCIATEDPLATFORMINSTRUMENTSENSORCONTAINER", CLASS='"1"'),
        ):
            odl.value("ASSOCIATEDSENSORSHORTNAME", "MODIS", 1)
            odl.value("ASSOCIATEDPLATFORMSHORTNAME", "Terra", 1)
            odl.value("ASSOCIATEDINSTRUMENTSHORTNAME", "MODIS", 1)
        _additional_attributes(odl, granule)
    return odl.text()


def _measured_parameter(odl: _OdlWriter, granule: Granule) -> None:
    quality = {
        "SCIENCEQUALITYFLAG": "Not Investigated",
        "AUTOMATICQUALITYFLAGEXPLANATION": "Simulated: quality is what the simulation says.",
        "AUTOMATICQUALITYFLAG": "Passed",
        "SCIENCEQUALITYFLAGEXPLANATION": "Simulated scene, not a measurement.",
    }
    statistics = {
        "QAPERCENTMISSINGDATA": 0,
        "QAPERCENTOUTOFBOUNDSDATA": 0,
        "QAPERCENTCLOUDCOVER": round(100 * granule.quality_shares[2]),
        "QAPERCENTINTERPOLATEDDATA": 0,
    }
    with (
        odl.part("GROUP", "MEASUREDPARAMETER"),
        odl.part("OBJECT", "MEASUREDPARAMETERCONTAINER", CLASS='"1"'),
    ):
        odl.values("QAFLAGS", quality, 1)
        odl.values("QASTATS", statistics, 1)
        odl.value("PARAMETERNAME", granule.parameter_name, 1)


def _spatial_domain(odl: _OdlWriter, grid: TileGrid) -> None:
    longitudes, latitudes = grid.corner_degrees()
    points: dict[str, Value] = {
        "GRINGPOINTLONGITUDE": _rounded(longitudes),
        "GRINGPOINTLATITUDE": _rounded(latitudes),
        "GRINGPOINTSEQUENCENO": [1, 2, 3, 4],
    }
    with (
        odl.part("GROUP", "SPATIALDOMAINCONTAINER"),
        odl.part("GROUP", "HORIZONTALSPATIALDOMAINCONTAINER"),
        odl.part("GROUP", "GPOLYGON"),
        odl.part("OBJECT", "GPOLYGONCONTAINER", CLASS='"1"'),
    ):
        odl.values("GRINGPOINT", points, 1)
        odl.values("GRING", {"EXCLUSIONGRINGFLAG": "N"}, 1)


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(np.round(value, 10)) for value in values]


def _tile_numbers(grid: TileGrid) -> dict[str, str]:
    return {"HORIZONTALTILENUMBER": f"{grid.h:02d}", "VERTICALTILENUMBER": f"{grid.v:02d}"}


def _additional_attributes(odl: _OdlWriter, granule: Granule) -> None:
    qualities = ("GOODQUALITY", "OTHERQUALITY", "NOTPRODUCEDCLOUD", "NOTPRODUCEDOTHER")
    shares = dict(zip(qualities, granule.quality_shares, strict=True))
    entries = {
        **{f"QAPERCENT{name}": f"{100 * share:.0f}" for name, share in shares.items()},
        **{f"QAFRACTION{name}": f"{share:.7f}" for name, share in shares.items()},
        **_tile_numbers(granule.grid),
        "TileID": f"51{granule.grid.h:03d}{granule.grid.v:03d}",
        "SIMULATED": "YES",
        "identifier_product_doi": f"10.5067/MODIS/{granule.product}.061",
        "identifier_product_doi_authority": "http://dx.doi.org",
    }
    with odl.part("GROUP", "ADDITIONALATTRIBUTES"):
        for number, (name, value) in enumerate(entries.items(), start=1):
            with odl.part("OBJECT", "ADDITIONALATTRIBUTESCONTAINER", CLASS=f'"{number}"'):
                odl.value("ADDITIONALATTRIBUTENAME", name, number)
                odl.values("INFORMATIONCONTENT", {"PARAMETERVALUE": value}, number)


def archive_metadata(granule: Granule) -> str:
    """Writes the archive metadata: tile, project, processing and bounding rectangle."""
    longitudes, latitudes = (_rounded(values) for values in granule.grid.corner_degrees())
    package = {
        "ALGORITHMPACKAGEMATURITYCODE": "Normal",
        "ALGORITHMPACKAGENAME": granule.package_name,
        "ALGORITHMPACKAGEVERSION": "6",
    }
    project = {
        "LONGNAME": granule.long_name,
        "INSTRUMENTNAME": "Moderate-Resolution Imaging SpectroRadiometer",
    }
    rectangle = {
        "NORTHBOUNDINGCOORDINATE": max(latitudes),
        "SOUTHBOUNDINGCOORDINATE": min(latitudes),
        "EASTBOUNDINGCOORDINATE": max(longitudes),
        "WESTBOUNDINGCOORDINATE": min(longitudes),
    }
    odl = _OdlWriter()
    with odl.part("GROUP", "ARCHIVEDMETADATA", GROUPTYPE="MASTERGROUP"):
        odl.values("TILEINFO", _tile_numbers(granule.grid))
        odl.values("ALGORITHMPACKAGE", package)
        odl.values("PROJECT", project)
        odl.value("PROCESSINGCENTER", granule.software)
        odl.value("PROCESSINGDATETIME", f"{granule.production_time:%Y-%m-%dT%H:%M:%S}.000Z")
        odl.values("BOUNDINGRECTANGLE", rectangle)
        odl.value("PROCESSINGENVIRONMENT", granule.software)
        odl.value("DESCRREVISION", "6.1")
    return odl.text()
