/** Builds the page into dist/: one script, one style sheet, one document, for the router that CONSILIUM_ROUTER names. */

import { writeFile } from "node:fs/promises";

import { build } from "esbuild";

import { documentFor, LOCAL_ROUTER } from "./document.js";

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
const { html } = await documentFor(process.env.CONSILIUM_ROUTER ?? LOCAL_ROUTER);
await writeFile(new URL("dist/index.html", import.meta.url), html);
