"""What an evaluation found, for readers: tables, figures, and one HTML file."""
