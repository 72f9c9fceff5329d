// A map of one city: metres east and north of the centre of a view of map_data.py, with map tiles where the page has them.

const pairs = ({ x, y }) => x.map((value, i) => [value, y[i]]);

class CityView extends MapView {
  constructor(canvas) {
    super(canvas, { cooperative: true });
    this.view = null;
  }

  fit([x0, y0, x1, y1]) {
    const pad = [Math.max(0, 20 - (x1 - x0)) / 2, Math.max(0, 20 - (y1 - y0)) / 2]; // at least 20 m
    super.fit([x0 - pad[0], y0 - pad[1], x1 + pad[0], y1 + pad[1]]);
  }

  // Square root of the zoom relative to the full extent; dots grow with it.
  get magnification() {
    const [x0, y0, x1, y1] = this.view.extent_m;
    return Math.sqrt(this.scale * Math.max((x1 - x0) / this.width, (y1 - y0) / this.height));
  }

  // The plane is equirectangular: metres east and north of the view's centre.
  get tileZoom() { return Math.log2(this.scale * metresAcross(this.view.frame.lat_deg) / TILE_PX); }

  toMercator(x, y) {
    const { lat_deg: lat, lon_deg: lon, east_m: east, north_m: north } = this.view.frame;
    return project(lat + y / north, lon + x / east);
  }

  fromMercator(x, y) {
    const { lat_deg: lat, lon_deg: lon, east_m: east, north_m: north } = this.view.frame, [at] = unproject(x, y);
    return [((x - 0.5) * 360 - lon) * east, (at - lat) * north];
  }
}
