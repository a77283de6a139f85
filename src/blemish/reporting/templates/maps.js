// Anomaly maps: their values, colours, contours and regions; the station uses them, too.
// The values of a grey image, {width, height, values}, whose black and white stand for `low` and `high`.
function valuesOf(picture, [low, high]) {
  const canvas = element("canvas", { width: picture.naturalWidth, height: picture.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const values = Float64Array.from({ length: canvas.width * canvas.height }, (_, index) => low + (pixels[4 * index] / 255) * (high - low));
  return { width: canvas.width, height: canvas.height, values };
}

// Draws a map in colours, from the first of the table at `dark` to the last at `bright`; `fades` leaves dark transparent.
function paintMap(canvas, map, [dark, bright], table, fades = false) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = canvas.getContext("2d"), picture = context.createImageData(map.width, map.height);
  map.values.forEach((value, index) => {
    const share = Math.min(1, Math.max(0, (value - dark) / (bright - dark)));
    picture.data.set(table[Math.round(share * (table.length - 1))], 4 * index);
    picture.data[4 * index + 3] = fades ? Math.round(255 * share) : 255;
  });
  context.putImageData(picture, 0, 0);
}

// The contour of the map at a level, by marching squares, in coordinates from 0 to 1.
function contour(map, level) {
  const { width, height, values } = map, parts = [];
  const value = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? -Infinity : values[y * width + x]) - level;
  const between = (a, b) => (Number.isFinite(a) && Number.isFinite(b) ? a / (a - b) : 0.5);
  for (let y = -1; y < height; y += 1) {
    for (let x = -1; x < width; x += 1) {
      const [a, b, c, d] = [value(x, y), value(x + 1, y), value(x + 1, y + 1), value(x, y + 1)];
      const crossings = [];
      if (a > 0 !== b > 0) crossings.push([x + between(a, b), y]);
      if (b > 0 !== c > 0) crossings.push([x + 1, y + between(b, c)]);
      if (c > 0 !== d > 0) crossings.push([x + between(d, c), y + 1]);
      if (d > 0 !== a > 0) crossings.push([x, y + between(a, d)]);
      for (let i = 0; i + 1 < crossings.length; i += 2) parts.push([crossings[i], crossings[i + 1]]);
    }
  }
  const clip = (share) => Math.min(1, Math.max(0, share));
  return parts.map((ends) => ends.map(([x, y]) => [clip((x + 0.5) / width), clip((y + 0.5) / height)]));
}

// The 8-connected regions of the map above the level, the highest peak first.
function regionsOf(map, level) {
  const { width, height, values } = map, seen = new Uint8Array(values.length), found = [];
  for (let start = 0; start < values.length; start += 1) {
    if (seen[start] || values[start] <= level) continue;
    const region = { left: width, top: height, right: 0, bottom: 0, area: 0, peak: -Infinity }, queue = [start];
    seen[start] = 1;
    while (queue.length) {
      const at = queue.pop(), x = at % width, y = (at - x) / width;
      region.left = Math.min(region.left, x); region.right = Math.max(region.right, x);
      region.top = Math.min(region.top, y); region.bottom = Math.max(region.bottom, y);
      region.area += 1; region.peak = Math.max(region.peak, values[at]);
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny += 1) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx += 1) {
          const next = ny * width + nx;
          if (!seen[next] && values[next] > level) { seen[next] = 1; queue.push(next); }
        }
      }
    }
    found.push(region);
  }
  return found.sort((a, b) => b.peak - a.peak);
}
