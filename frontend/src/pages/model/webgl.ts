let known: boolean | undefined;

/** True when this browser can draw with WebGL 2; asked once. */
export function webGL(): boolean {
  if (known === undefined) {
    try {
      const gl = document.createElement("canvas").getContext("webgl2");
      known = gl !== null;
      gl?.getExtension("WEBGL_lose_context")?.loseContext();
    } catch {
      known = false;
    }
  }
  return known;
}
