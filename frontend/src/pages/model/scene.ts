/** The tensors of a layer in space, drawn with WebGL. Knows planes, cells and lines; nothing of the server. */

import {
  BufferAttribute,
  BufferGeometry,
  Color,
  DataTexture,
  DoubleSide,
  FloatType,
  LineBasicMaterial,
  LineSegments,
  Mesh,
  NearestFilter,
  PerspectiveCamera,
  PlaneGeometry,
  Raycaster,
  RedFormat,
  RGBAFormat,
  Scene,
  ShaderMaterial,
  Vector2,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";

import { MISSING, steps, type Theme } from "../../views/palette";
import type { Block } from "./blocks";
import { isMissing, NOTHING, rangeOf, type Range } from "./colours";

export interface Cell {
  block: Block;
  row: number;
  column: number;
}

export interface Link {
  from: Cell;
  to: Cell;
}

interface Plane {
  block: Block;
  mesh: Mesh<PlaneGeometry, ShaderMaterial>;
  values: Float32Array | null;
  range: Range | null;
}

interface Label {
  element: HTMLElement;
  at: Vector3;
  minor: boolean;
  /** Widths of the whole text and of its name alone, about. */
  long: number;
  short: number;
  /** Where the number before it stands: numbers that would crowd are left out. */
  before: Vector3 | null;
}

const VERTEX = /* glsl */ `
varying vec2 at;
void main() {
  at = uv;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}`;

const FRAGMENT = /* glsl */ `
uniform sampler2D values;
uniform sampler2D palette;
uniform vec2 size;
uniform float low;
uniform float high;
uniform float loaded;
uniform float markedRow;
uniform vec2 cursor;
uniform vec3 missing;
uniform vec3 ink;
uniform vec3 glow;
varying vec2 at;
void main() {
  vec2 place = vec2(at.x, 1.0 - at.y) * size;
  vec2 cell = clamp(floor(place), vec2(0.0), size - 1.0);
  vec2 pixel = max(fwidth(place), vec2(1e-6));
  vec3 colour = missing;
  if (loaded > 0.5) {
    float value = texelFetch(values, ivec2(cell), 0).r;
    if (value > -1e30) {
      float share = clamp((value - low) / max(high - low, 1e-30), 0.0, 1.0);
      colour = texture2D(palette, vec2((share * 32.0 + 0.5) / 33.0, 0.5)).rgb;
    }
  } else {
    float stripe = step(0.5, fract((place.x / size.x + place.y / size.y) * 12.0));
    colour = mix(missing, ink, 0.04 + 0.05 * stripe);
  }
  vec2 inside = place - cell;
  if (pixel.x < 0.16 && pixel.y < 0.16) {
    vec2 edge = step(inside, pixel) + step(1.0 - pixel, inside);
    colour = mix(colour, ink, 0.16 * min(1.0, edge.x + edge.y));
  }
  if (markedRow >= 0.0 && abs(cell.y - markedRow) < 0.5) {
    float rim = pixel.y < 0.2 ? step(inside.y, 1.2 * pixel.y) + step(1.0 - 1.2 * pixel.y, inside.y) : 0.0;
    colour = mix(colour, glow, 0.14 + 0.5 * min(1.0, rim));
  }
  if (cursor.x >= 0.0 && cell == cursor) {
    vec2 rim = step(inside, max(2.0 * pixel, vec2(0.12))) + step(1.0 - max(2.0 * pixel, vec2(0.12)), inside);
    colour = mix(colour, glow, 0.25 + 0.75 * min(1.0, rim.x + rim.y));
  }
  vec2 border = step(vec2(at.x, at.y), fwidth(at)) + step(1.0 - fwidth(at), vec2(at.x, at.y));
  colour = mix(colour, ink, 0.5 * min(1.0, border.x + border.y));
  gl_FragColor = vec4(colour, 1.0);
}`;

export class TensorScene {
  private readonly renderer: WebGLRenderer;
  private readonly camera = new PerspectiveCamera(26, 1, 1, 60_000);
  private readonly controls: OrbitControls;
  private readonly scene = new Scene();
  private readonly planes = new Map<string, Plane>();
  private readonly labels: Label[] = [];
  private readonly overlay: HTMLElement;
  private readonly observer: ResizeObserver;
  private readonly flow = lines(0.55);
  private readonly highlight = lines(1);
  private palettes = new Map<string, DataTexture>();
  private theme: Theme = "light";
  private frame = 0;
  private moved = false;
  private extent = { width: 1, height: 1, depth: 1, x: 0 };

  constructor(
    private readonly host: HTMLElement,
    private readonly on: { hover: (cell: Cell | null) => void; pick: (cell: Cell) => void; open: (block: Block) => void },
  ) {
    this.renderer = new WebGLRenderer({ antialias: true, alpha: true });
    this.renderer.setPixelRatio(Math.min(2, window.devicePixelRatio));
    this.overlay = document.createElement("div");
    this.overlay.className = "scene-labels";
    this.overlay.setAttribute("aria-hidden", "true");
    host.append(this.renderer.domElement, this.overlay);
    this.controls = new OrbitControls(this.camera, this.renderer.domElement);
    this.controls.enableDamping = false;
    this.controls.zoomToCursor = true;
    this.controls.maxPolarAngle = Math.PI * 0.95;
    this.controls.addEventListener("change", this.draw);
    this.scene.add(this.flow, this.highlight);
    const canvas = this.renderer.domElement;
    canvas.addEventListener("pointermove", this.pointed);
    canvas.addEventListener("pointerleave", this.left);
    canvas.addEventListener("pointerdown", this.pressed);
    canvas.addEventListener("click", this.clicked);
    canvas.addEventListener("dblclick", this.opened);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(host);
    this.resize();
  }

  /** Show these planes; those that were there with the same name and size keep their values. */
  show(blocks: readonly Block[], names: ReadonlyMap<Block, string>): void {
    const wanted = new Map(blocks.map((block) => [names.get(block) ?? block.site, block]));
    for (const [name, plane] of this.planes) {
      const block = wanted.get(name);
      if (block && block.rows === plane.block.rows && block.columns === plane.block.columns) continue;
      this.drop(name);
    }
    for (const [name, block] of wanted) {
      const plane = this.planes.get(name) ?? this.add(name, block);
      plane.block = block;
      plane.mesh.position.set(block.x, block.y, block.z);
      plane.mesh.scale.set(block.width, block.height, 1);
    }
    this.connect(blocks);
    this.label([...wanted.entries()]);
    this.measure(blocks);
    this.draw();
  }

  /** Give a plane its numbers, row by row. */
  fill(name: string, values: Float32Array): void {
    const plane = this.planes.get(name);
    if (!plane) return;
    const { rows, columns, kind } = plane.block;
    if (values.length !== rows * columns) return;
    plane.values = values;
    plane.range = rangeOf(kind, values);
    const uniforms = plane.mesh.material.uniforms;
    (uniforms["values"]!.value as DataTexture | null)?.dispose();
    const safe = values.some(isMissing) ? values.map((value) => (isMissing(value) ? NOTHING : value)) : values;
    uniforms["values"]!.value = texture(safe, columns, rows);
    uniforms["low"]!.value = plane.range.low;
    uniforms["high"]!.value = plane.range.high;
    uniforms["palette"]!.value = this.palette(plane.range.name);
    uniforms["loaded"]!.value = 1;
    this.draw();
  }

  /** The range of colours of a plane, once it has numbers. */
  range(name: string): Range | null {
    return this.planes.get(name)?.range ?? null;
  }

  /** Mark one cell and its token's row everywhere. */
  mark(cell: Cell | null): void {
    for (const plane of this.planes.values()) {
      const { uniforms } = plane.mesh.material;
      const here = cell !== null && plane.block.site === cell.block.site;
      (uniforms["cursor"]!.value as Vector2).set(here ? cell.column : -1, here ? cell.row : -1);
      uniforms["markedRow"]!.value = cell ? cell.row : -1;
    }
    this.draw();
  }

  /** Lines from the cells that a number is made of. */
  connectCells(links: readonly Link[]): void {
    write(this.highlight, links.flatMap(({ from, to }) => [centre(from), centre(to)]));
    this.draw();
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    for (const made of this.palettes.values()) made.dispose();
    this.palettes = new Map();
    const style = getComputedStyle(document.documentElement);
    const ink = new Color(style.getPropertyValue("--ink").trim() || "#000");
    (this.flow.material as LineBasicMaterial).color.set(style.getPropertyValue("--faint").trim() || "#888");
    (this.highlight.material as LineBasicMaterial).color.set(style.getPropertyValue("--accent").trim() || "#06c");
    for (const plane of this.planes.values()) {
      const { uniforms } = plane.mesh.material;
      (uniforms["missing"]!.value as Vector3).fromArray(MISSING[theme].map((part) => part / 255));
      (uniforms["ink"]!.value as Vector3).fromArray(srgb(ink));
      (uniforms["glow"]!.value as Vector3).fromArray(theme === "dark" ? [1, 0.85, 0.3] : [0.85, 0.1, 0.45]);
      if (plane.range) uniforms["palette"]!.value = this.palette(plane.range.name);
    }
    this.draw();
  }

  /** Look at everything, a little from the side and from above. */
  home(): void {
    const { width, height, depth, x } = this.extent;
    const aspect = this.camera.aspect || 1;
    const tangent = Math.tan(((this.camera.fov / 2) * Math.PI) / 180);
    const seen = width * 0.95 + depth * 0.4;
    const distance = Math.max(height / 2 / tangent, seen / 2 / tangent / aspect) * 1.08 + depth / 2;
    this.controls.target.set(x, 0, -depth / 2);
    const direction = new Vector3(0.4, 0.13, 1).normalize().multiplyScalar(distance);
    this.camera.position.copy(this.controls.target).add(direction);
    this.controls.update();
    this.draw();
  }

  /** Come close to a cell. */
  lookAt(cell: Cell): void {
    const target = centre(cell);
    const offset = this.camera.position.clone().sub(this.controls.target);
    const wide = Math.max(24, cell.block.height * 1.4);
    const far = Math.min(offset.length(), wide / Math.tan(((this.camera.fov / 2) * Math.PI) / 180) / 2 + wide);
    this.controls.target.copy(target);
    this.camera.position.copy(target).add(offset.setLength(far));
    this.controls.update();
    this.draw();
  }

  zoom(factor: number): void {
    const offset = this.camera.position.clone().sub(this.controls.target).multiplyScalar(factor);
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
    this.draw();
  }

  turn(angle: number): void {
    const offset = this.camera.position.clone().sub(this.controls.target).applyAxisAngle(new Vector3(0, 1, 0), angle);
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
    this.draw();
  }

  /** Where a cell lies on the screen, relative to the host. */
  place(cell: Cell): { x: number; y: number } {
    const at = centre(cell).project(this.camera);
    return { x: ((at.x + 1) / 2) * this.host.clientWidth, y: ((1 - at.y) / 2) * this.host.clientHeight };
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    for (const name of [...this.planes.keys()]) this.drop(name);
    for (const made of this.palettes.values()) made.dispose();
    this.flow.geometry.dispose();
    this.highlight.geometry.dispose();
    this.controls.dispose();
    this.renderer.dispose();
    this.renderer.domElement.remove();
    this.overlay.remove();
  }

  private add(name: string, block: Block): Plane {
    const material = new ShaderMaterial({
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      side: DoubleSide,
      uniforms: {
        values: { value: null },
        palette: { value: this.palette("diverging") },
        size: { value: new Vector2(block.columns, block.rows) },
        low: { value: 0 },
        high: { value: 1 },
        loaded: { value: 0 },
        markedRow: { value: -1 },
        cursor: { value: new Vector2(-1, -1) },
        missing: { value: new Vector3().fromArray(MISSING[this.theme].map((part) => part / 255)) },
        ink: { value: new Vector3(0, 0, 0) },
        glow: { value: new Vector3(1, 0, 0.4) },
      },
    });
    const mesh = new Mesh(new PlaneGeometry(1, 1), material);
    const plane: Plane = { block, mesh, values: null, range: null };
    mesh.userData["name"] = name;
    this.scene.add(mesh);
    this.planes.set(name, plane);
    return plane;
  }

  private drop(name: string): void {
    const plane = this.planes.get(name);
    if (!plane) return;
    this.scene.remove(plane.mesh);
    plane.mesh.geometry.dispose();
    (plane.mesh.material.uniforms["values"]!.value as DataTexture | null)?.dispose();
    plane.mesh.material.dispose();
    this.planes.delete(name);
  }

  private palette(name: "diverging" | "sequential"): DataTexture {
    const known = this.palettes.get(name);
    if (known) return known;
    const bytes = new Uint8Array(steps(name, this.theme).flatMap(([red, green, blue]) => [red, green, blue, 255]));
    const made = new DataTexture(bytes, bytes.length / 4, 1, RGBAFormat);
    made.needsUpdate = true;
    this.palettes.set(name, made);
    return made;
  }

  private connect(blocks: readonly Block[]): void {
    const bySite = new Map(blocks.map((block) => [block.site, block]));
    const points = blocks.flatMap((block) =>
      block.from.flatMap((site) => {
        const sources = bySite.has(site) ? [bySite.get(site)!] : blocks.filter((one) => one.site.startsWith(`${site}.`));
        return sources.flatMap((source) => between(source, block));
      }),
    );
    write(this.flow, points);
  }

  private label(entries: readonly (readonly [string, Block])[]): void {
    for (const label of this.labels) label.element.remove();
    this.labels.length = 0;
    const small = ([name, block]: readonly [string, Block]) => Number(name.startsWith("tower:") || (block.head ?? block.expert ?? 0) > 0);
    // from right to left, so that a long label gives way to the name on its right; numbers come last
    for (const [name, block] of [...entries].sort((a, b) => small(a) - small(b) || b[1].x - a[1].x)) {
      const tower = name.startsWith("tower:");
      const number = block.head ?? block.expert;
      const minor = tower || (number !== undefined && number > 0);
      const element = document.createElement("span");
      element.className = minor ? "minor" : "";
      if (tower) element.textContent = /\[(\d+)\]/.exec(block.site)?.[1] ?? "";
      else if (minor) element.textContent = String(number);
      else {
        const strong = document.createElement("b");
        strong.textContent = block.kind;
        const rest = document.createElement("i");
        rest.textContent = ` ${block.title} · ${block.rows} × ${block.columns}`;
        element.append(strong, rest);
      }
      const left = block.x - block.width / 2;
      const at = tower
        ? new Vector3(left - 12, block.y, block.z)
        : new Vector3(minor ? left : left, block.y + block.height / 2 + 6, block.z);
      const crowd = !tower && minor ? new Vector3(at.x, at.y, at.z + Math.abs(block.z) / (number || 1)) : null;
      this.overlay.append(element);
      const [long, short] = [element.textContent?.length ?? 0, minor ? 2 : block.kind.length];
      this.labels.push({ element, at, minor, long: long * 6 + 6, short: short * 7 + 6, before: crowd });
    }
  }

  private measure(blocks: readonly Block[]): void {
    const lefts = blocks.map((block) => block.x - block.width / 2);
    const rights = blocks.map((block) => block.x + block.width / 2);
    const tops = blocks.map((block) => block.y + block.height / 2);
    const bottoms = blocks.map((block) => block.y - block.height / 2);
    if (!blocks.length) return;
    const [left, right] = [Math.min(...lefts), Math.max(...rights)];
    this.extent = {
      width: right - left,
      height: Math.max(...tops) - Math.min(...bottoms),
      depth: -Math.min(...blocks.map((block) => block.z)),
      x: (left + right) / 2,
    };
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (!width || !height) return;
    this.renderer.setSize(width, height);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  private readonly draw = (): void => {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.renderer.render(this.scene, this.camera);
      this.placeLabels();
    });
  };

  private placeLabels(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    const taken: { x: number; y: number; width: number }[] = [];
    for (const { element, at, long, short, before } of this.labels) {
      const seen = at.clone().project(this.camera);
      const near = before?.clone().project(this.camera);
      const x = ((seen.x + 1) / 2) * width;
      const y = ((1 - seen.y) / 2) * height;
      const free = (wide: number) =>
        !taken.some((other) => Math.abs(other.y - y) < 13 && x < other.x + other.width && other.x < x + wide);
      const dense = near ? Math.hypot((near.x - seen.x) * width, (near.y - seen.y) * height) / 2 < 18 : false;
      const outside = dense || seen.z > 1 || x < -long || x > width || y < 0 || y > height + 10;
      const wide = outside ? 0 : free(long) ? long : free(short) ? short : 0;
      element.hidden = wide === 0;
      if (!wide) continue;
      element.classList.toggle("short", wide < long);
      taken.push({ x, y, width: wide });
      element.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) translate(0, -100%)`;
    }
  }

  private cellAt(event: MouseEvent): Cell | null {
    const box = this.renderer.domElement.getBoundingClientRect();
    const point = new Vector2(
      ((event.clientX - box.left) / box.width) * 2 - 1,
      1 - ((event.clientY - box.top) / box.height) * 2,
    );
    const ray = new Raycaster();
    ray.setFromCamera(point, this.camera);
    const hit = ray.intersectObjects([...this.planes.values()].map((plane) => plane.mesh), false)[0];
    const plane = hit && this.planes.get(hit.object.userData["name"] as string);
    if (!hit?.uv || !plane) return null;
    const { rows, columns } = plane.block;
    return {
      block: plane.block,
      row: Math.min(rows - 1, Math.floor((1 - hit.uv.y) * rows)),
      column: Math.min(columns - 1, Math.floor(hit.uv.x * columns)),
    };
  }

  private readonly pointed = (event: PointerEvent): void => {
    if (event.buttons) {
      this.moved = true;
      return;
    }
    this.on.hover(this.cellAt(event));
  };

  private readonly left = (): void => this.on.hover(null);

  private readonly pressed = (): void => {
    this.moved = false;
  };

  private readonly clicked = (event: MouseEvent): void => {
    const cell = this.moved ? null : this.cellAt(event);
    if (cell) this.on.pick(cell);
  };

  private readonly opened = (event: MouseEvent): void => {
    const cell = this.cellAt(event);
    if (cell) this.on.open(cell.block);
  };
}

function texture(values: Float32Array, columns: number, rows: number): DataTexture {
  const made = new DataTexture(values, columns, rows, RedFormat, FloatType);
  made.minFilter = made.magFilter = NearestFilter;
  made.needsUpdate = true;
  return made;
}

function lines(opacity: number): LineSegments {
  const material = new LineBasicMaterial({ transparent: opacity < 1, opacity });
  const made = new LineSegments(new BufferGeometry(), material);
  made.frustumCulled = false;
  return made;
}

function write(target: LineSegments, points: readonly Vector3[]): void {
  target.geometry.dispose();
  target.geometry = new BufferGeometry();
  const flat = new Float32Array(points.flatMap((point) => [point.x, point.y, point.z]));
  target.geometry.setAttribute("position", new BufferAttribute(flat, 3));
  target.visible = points.length > 0;
}

function centre({ block, row, column }: Cell): Vector3 {
  return new Vector3(
    block.x - block.width / 2 + ((column + 0.5) / block.columns) * block.width,
    block.y + block.height / 2 - ((row + 0.5) / block.rows) * block.height,
    block.z + 0.6,
  );
}

/** From the side of one plane to the side of the next, or from below it to above one on a lower line. */
function between(source: Block, block: Block): [Vector3, Vector3] {
  const lower = source.y - block.y > source.height / 2;
  if (lower && Math.abs(source.x - block.x) < (source.width + block.width) / 2)
    return [
      new Vector3(source.x, source.y - source.height / 2, source.z),
      new Vector3(source.x, block.y + block.height / 2, block.z),
    ];
  const side = block.x > source.x ? 1 : -1;
  return [
    new Vector3(source.x + (side * source.width) / 2, source.y, source.z),
    new Vector3(block.x - (side * block.width) / 2, block.y, block.z),
  ];
}

function srgb(colour: Color): [number, number, number] {
  const made = colour.clone().convertLinearToSRGB();
  return [made.r, made.g, made.b];
}
