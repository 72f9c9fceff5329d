"""Map tiles of another provider, by name or URL, for the maps of pages and of the service."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from swclip.errors import ConfigError

_ALIASES = {"osm": "OpenStreetMap.Mapnik"}
_EXAMPLE = "https://tiles.example.org/{z}/{x}/{y}.png"


@dataclass(frozen=True)
class Tiles:
    """Map tiles in Web Mercator that the browser of a reader loads from their provider.

    Attributes:
        url: URL template with {z}, {x} and {y}.
        attribution: Attribution of the tiles, shown on the map.
        max_zoom: Largest zoom level of the tiles.
    """

    url: str
    attribution: str
    max_zoom: int = 19

    def __post_init__(self) -> None:
        missing = [name for name in ("{z}", "{x}", "{y}") if name not in self.url]
        if missing or not self.url.startswith(("https://", "http://")):
            raise ConfigError(
                f"--tiles {self.url!r}: must be osm, another name of xyzservices (such as Esri.WorldGrayCanvas), or a "
                f"URL with {{z}}, {{x}} and {{y}}, such as {_EXAMPLE}"
            )
        if any(character in self.url for character in " ;,'\"\\\n\r\t"):
            raise ConfigError(f"--tiles {self.url!r}: must not contain spaces, quotes, commas or semicolons.")
        if not self.attribution.strip():
            raise ConfigError("--tiles URL needs --attribution, the attribution that the provider requires.")

    @classmethod
    def of(cls, name: str, attribution: str = "") -> Tiles:
        """Tiles by the name of their provider, or by URL.

        Args:
            name: `osm` (OpenStreetMap's own servers), a name of xyzservices such as Esri.WorldGrayCanvas, or a URL
                template with {z}, {x} and {y}.
            attribution: Attribution of the tiles; needed for a URL, else that of the provider by default.

        Raises:
            ConfigError: The name is unknown or its provider requires a key, or the URL cannot be used.

        Example:
            >>> Tiles.of("osm").to_dict()["attribution"], Tiles.of("osm").origin
            ('© OpenStreetMap contributors', 'https://tile.openstreetmap.org')
        """
        if "{" in name or "/" in name:
            return cls(name, attribution)
        import xyzservices

        try:
            provider = xyzservices.providers.query_name(_ALIASES.get(name.lower(), name))
        except ValueError:
            return cls(name, attribution)
        if provider.requires_token():
            raise ConfigError(
                f"--tiles {name}: this provider requires a key; use the URL with the key, such as {_EXAMPLE}, and "
                "--attribution."
            )
        credit = attribution or str(provider.attribution).replace("(C)", "©")
        return cls(quote(provider.build_url(), safe=":/?&=%{}+@~$*()"), credit, int(provider.get("max_zoom", 19)))

    @property
    def origin(self) -> str:
        """Scheme and host, for the content security policy of a page; a pattern such as {s} is not supported."""
        scheme, _, rest = self.url.partition("://")
        host = rest.split("/", 1)[0]
        if "{" in host or not host:
            raise ConfigError(f"--tiles {self.url!r}: the host must be a single name, without a pattern.")
        return f"{scheme}://{host}"

    def to_dict(self) -> dict[str, str | int]:
        """The values for the script of a page."""
        return {"url": self.url, "attribution": self.attribution, "max_zoom": self.max_zoom}
