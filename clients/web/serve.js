/** Serves dist/ for trying: `npm run serve`, then http://localhost:8080. Any server of static files does the same. */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { pathToFileURL } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
};
const FILES = new Set(["index.html", "app.js", "style.css"]);

/** Listens on the port (0: any that is free) of the loopback and returns the server, listening. */
export async function serve(port) {
  const server = createServer(async (request, response) => {
    const name = new URL(request.url ?? "/", "http://localhost").pathname.slice(1) || "index.html";
    if (!FILES.has(name)) return void response.writeHead(404).end();
    const body = await readFile(new URL(`dist/${name}`, import.meta.url));
    response.writeHead(200, { "content-type": TYPES[extname(name)], "cache-control": "no-store" }).end(body);
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return server;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await serve(8080);
  console.log("http://localhost:8080");
}
