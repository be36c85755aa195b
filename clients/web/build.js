/** Builds the page into dist/: one script, one style sheet, one document. */

import { cp } from "node:fs/promises";

import { build } from "esbuild";

await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ["src/app.ts", "src/style.css"],
  outdir: "dist",
  bundle: true,
  minify: true,
  sourcemap: true,
  format: "esm",
  target: "es2022",
  // src/client is a link to ../node/src: the page and the Node.js package share the generated code.
  preserveSymlinks: true,
  logLevel: "warning",
});
await cp(new URL("src/index.html", import.meta.url), new URL("dist/index.html", import.meta.url));
