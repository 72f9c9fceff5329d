"""The form in which names of columns are compared, and usual names of files and positions in several languages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal


def plain_name(column: str) -> str:
    """Normalise a column name: no case, accents, punctuation or unit in brackets.

    Example:
        >>> plain_name(" GPS_Latitude (deg) ")
        'gpslatitude'
    """
    text = unicodedata.normalize("NFKD", column).casefold()
    without_unit = re.sub(r"[(\[][^)\]]*[)\]]", "", text)
    return "".join(c for c in without_unit if c.isalnum()) or "".join(c for c in text if c.isalnum())


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(plain_name(name) for name in text.split()))


IMAGE_NAMES = (
    _names(
        "image imagepath imagefile imagefilename imagename img imgpath imgname imgfile photo photopath photofile "
        "photograph picture file filename filepath path relativepath relpath frame framepath sourcefile"
    ),
    # Rarer names in English; German, French, Spanish, Catalan, Portuguese, Italian, Dutch, Swedish, Danish, Norwegian,
    # Finnish, Polish, Czech, Slovak, Hungarian, Turkish, Russian, Ukrainian, Greek, Indonesian, Vietnamese, Chinese,
    # Japanese, Korean: the words for files, then those for pictures, which may also be titles or numbers.
    _names(
        "fname photoname photofilename picturename picturefile imagefilepath datei dateiname dateipfad bilddatei "
        "fotodatei fichier nomfichier nomdufichier nomdefichier cheminfichier chemindufichier fichierimage archivo "
        "nombrearchivo nombredearchivo nombredelarchivo rutaarchivo fichero nombrefichero nombredelfichero arxiu "
        "arquivo nomearquivo nomedoarquivo ficheiro nomeficheiro nomedoficheiro nomefile nomedelfile percorsofile "
        "bestand bestandsnaam bestandspad fil filnamn filsökväg filnavn filsti bildfil billedfil bildefil tiedosto "
        "tiedostonimi plik nazwapliku soubor názevsouboru súbor názovsúboru fájl fájlnév dosya dosyaad\u0131 dosyaadi "
        "файл имяфайла імяфайлу αρχείο όνομααρχείου berkas namafile namaberkas tệp têntệp 文件 文件名 檔案 檔名 "
        "ファイル ファイル名 画像ファイル 파일 파일명"
    ),
    _names(
        "bild bilder bildname bildpfad foto fotos fotoname fotografie photographie imagen rutaimagen nombreimagen "
        "fotografía imagem nomeimagem fotografia immagine afbeelding bilde billede kuva valokuva zdjęcie obraz "
        "obrázek fotka kép fénykép resim fotoğraf görüntü фото фотография изображение снимок світлина зображення "
        "εικόνα φωτογραφία gambar ảnh hìnhảnh 图片 图像 照片 图片名 圖片 相片 画像 画像名 写真 사진 이미지"
    ),
    _names("name"),
)
LAT_NAMES = (
    _names(
        "lat latitude latdeg latitudedeg latdegrees latitudedegrees gpslat gpslatitude latwgs84 wgs84lat latdd "
        "decimallatitude ylat laty"
    ),
    # German, Spanish, Italian, Dutch, Polish, Russian and Ukrainian, Chinese, Japanese, Korean, Czech, Swedish, Danish
    # and Norwegian, Finnish, Turkish, Greek, Indonesian, Hungarian, Slovak, Croatian, Serbian, Bulgarian, Vietnamese,
    # Arabic, Persian, Hebrew, Hindi, Thai. In French and Portuguese as in English.
    _names(
        "breitengrad breitengrade geobreite geographischebreite gpsbreite breitewgs84 latitud latitudgps "
        "latitudine latitudedecimale breedtegraad szerokoscgeograficzna szerokośćgeograficzna широта "
        "географическаяширота 纬度 緯度 위도 zemepisnasirka zeměpisnášířka breddgrad breddegrad leveysaste "
        "leveyspiiri enlem γεωγραφικόπλάτος lintang szélességifok latitudinegps zemepisnášírka geografskaširina "
        "географскаширина vĩđộ خطالعرض دائرةالعرض عرضجغرافیایی קורוחב अक्षांश ละติจูด"
    ),
)
LON_NAMES = (
    _names(
        "lon lng long longitude londeg lngdeg longitudedeg londegrees longitudedegrees gpslon gpslng gpslong "
        "gpslongitude lonwgs84 wgs84lon londd decimallongitude xlon lonx"
    ),
    _names(
        "längengrad laengengrad längengrade laengengrade geolänge geolaenge geographischelänge "
        "geographischelaenge gpslänge gpslaenge längewgs84 laengewgs84 longitud longitudgps longitudine "
        "longitudedecimale lengtegraad dlugoscgeograficzna długośćgeograficzna долгота географическаядолгота "
        "довгота 经度 經度 経度 경도 zemepisnadelka zeměpisnádélka längdgrad lengdegrad længdegrad laengdegrad "
        "pituusaste pituuspiiri boylam γεωγραφικόμήκος bujur hosszúságifok longitudinegps zemepisnádĺžka "
        "geografskadužina географскадължина географскадужина kinhđộ خطالطول طولجغرافیایی קואורך देशांतर ลองจิจูด"
    ),
)
# The words for width and length too: they are a position only side by side.
_TWO_WORDS = tuple(
    (_names(lat), _names(lon))
    for lat, lon in (
        ("breite", "länge laenge"),
        ("breedte", "lengte"),
        ("szerokość", "długość dlugosc"),
        ("szélesség", "hosszúság"),
        ("šířka", "délka"),
        ("bredde", "længde laengde lengde"),
        ("bredd", "längd"),
    )
)
LAT_REF_NAMES = (
    _names(
        "latref latituderef gpslatref gpslatituderef latreference latitudereference latdir latdirection "
        "latitudedir latitudedirection lathemi lathemisphere latitudehemisphere latletter latns nshemisphere"
    ),
    _names("ns nsindicator northsouth"),
)
LON_REF_NAMES = (
    _names(
        "lonref lngref longref longituderef gpslonref gpslngref gpslongref gpslongituderef lonreference "
        "longitudereference londir lngdir longdir londirection longdirection longitudedir longitudedirection "
        "lonhemi lonhemisphere longitudehemisphere lonletter lonew ewhemisphere"
    ),
    _names("ew eastwest ewindicator we"),
)
GEOMETRY_NAMES = _names(
    "geometry geom wkt wkb ewkt ewkb thegeom wkbgeometry wktgeometry wktgeom geometrywkt geometrywkb geomwkt "
    "geomwkb shape shapewkt geometrie geometria géométrie wkbgeom hexewkb ogrgeometry geojson"
)
LAT_FIRST_NAMES = _names(
    "positionsdeg latlon latlng latlong latitudelongitude latlngs gpslatlon gpsposition gpscoordinates "
    "geopoint2d geopoint2 yx breitelänge breitelaenge 纬度经度"
)
LON_FIRST_NAMES = _names("lonlat lnglat longlat longitudelatitude lonlats xy längebreite laengebreite 经度纬度")
PAIR_NAMES = _names(
    "coordinates coordinate coords coord position positions gps gpscoords coordinatesdeg geopoint geolocation "
    "geocoordinates geo location point latlonpair koordinaten koordinate geokoordinaten standort koordinaty "
    "współrzędne coordonnées coordonnees coordenadas coordenada ubicación localização coordinate coordinaat "
    "coördinaten coordinaten posizione posición координаты 坐标 座標 经纬度 緯度経度 좌표 souradnice "
    "souřadnice koordinat koordinater koordinaatit"
)
DATUM_NAMES = _names(
    "gpsmapdatum mapdatum gpsdatum geodeticdatum horizontaldatum datum crs srid epsg epsgcode coordinatesystem "
    "coordinatereferencesystem"
)
POSITION_NAMES = (GEOMETRY_NAMES, LAT_FIRST_NAMES + LON_FIRST_NAMES, PAIR_NAMES)

_OTHER_UNITS = frozenset(
    _names("rad radian radians m meter meters metre metres km ft feet foot mm cm px pixel pixels utm gon grads")
)
_MINUTES = _names("min mins minute minutes m minuten minutos minuti")
_DIRECTIONS = {word: word[0].upper() for word in _names("n s e w north south east west")}
_POSITION_WORDS = frozenset(
    _names(
        "lat latitude lon lng long longitude latlon geometry geom wkt wkb coord coords coordinate coordinates "
        "gps utm easting northing eastings northings geohash plus olc mgrs h3 what3words x y xcoord ycoord "
        "breite breitengrad länge längengrad laenge laengengrad koordinaten rechtswert hochwert latrad lonrad "
        "position geolocation geopoint location point shape xyz"
    )
)


def width_and_length(columns: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of latitude and longitude whose names also mean width and length, where both are present.

    Example:
        >>> width_and_length(["Bild", "Breite", "Laenge"]), width_and_length(["Breite", "Hoehe"])
        (('Breite', 'Laenge'), None)
    """
    for lat_names, lon_names in _TWO_WORDS:
        lat, lon = ([column for column in columns if plain_name(column) in names] for names in (lat_names, lon_names))
        if len(lat) == 1 and len(lon) == 1:
            return lat[0], lon[0]
    return None


def minutes_beside(column: str, columns: Sequence[str]) -> str | None:
    """Return the column of minutes beside a column of degrees, or None.

    Example:
        >>> minutes_beside("lat_deg", ["lat_deg", "lat_min", "lat_sec"]), minutes_beside("lat", ["lat", "lat_max"])
        ('lat_min', None)
    """
    base = re.sub(r"(?<=.)(degrees?|deg|d|grad)$", "", plain_name(column))
    by_name = {plain_name(name): name for name in columns if name != column}
    if f"{base}max" in by_name:  # a box, with its smallest and largest latitude
        return None
    return next((by_name[base + word] for word in _MINUTES if base + word in by_name), None)


def order_of_name(column: str) -> Literal["lat", "lon"] | None:
    """Return the axis that is first in a column of pairs by its name; None where the name does not say.

    Example:
        >>> order_of_name("LatLng"), order_of_name("pred_lonlat"), order_of_name("coordinates")
        ('lat', 'lon', None)
    """
    name = plain_name(column)
    if name in LAT_FIRST_NAMES or name.endswith(("latlon", "latlng", "latlong")):
        return "lat"
    return "lon" if name in LON_FIRST_NAMES or name.endswith(("lonlat", "lnglat", "longlat")) else None


def position_like(columns: Sequence[str]) -> list[str]:
    """Return the columns whose names speak of positions, such as `x`, `utm_easting` and `geohash`.

    Example:
        >>> position_like(["image", "X", "utmEasting", "latency", "max_x"])
        ['X', 'utmEasting', 'max_x']
    """
    names = []
    for column in columns:
        words = re.findall(r"[^\W\d_]+\d*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(column)))
        if _POSITION_WORDS.intersection(map(plain_name, words)):
            names.append(str(column))
    return names


class UnitError(ValueError):
    """The unit in a column's name is not the degree."""


def letter_of_name(column: str) -> str:
    """Return S or W where the unit in brackets of a column's name counts degrees southwards or westwards, else "".

    Raises:
        UnitError: The unit is not the degree.

    Example:
        >>> letter_of_name("Longitude (\u00b0W)"), letter_of_name("lon (deg)"), letter_of_name("lat")
        ('W', '', '')
    """
    for unit in re.findall(r"[(\[]([^)\]]*)[)\]]", column):
        words = re.findall(r"[^\W\d_]+", unit.casefold())
        if _OTHER_UNITS.intersection(words):
            raise UnitError(f"its unit is {unit!r}, and degrees are needed")
        letters = [_DIRECTIONS[word] for word in words if word in _DIRECTIONS]
        if len(letters) == 1 and letters[0] in "SW":
            return letters[0]
    return ""
