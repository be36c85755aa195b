/**
 * Serves the page for trying: `npm run serve`, then http://localhost:8080. Any server of static files does the same with
 * dist/, and should send the same headers.
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { pathToFileURL } from "node:url";

import { documentFor, LOCAL_ROUTER } from "./document.js";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
};
const FILES = new Set(["index.html", "app.js", "style.css"]);

/**
 * Listens on the port (0: any that is free) of the loopback and returns the server, listening. The document is made for the
 * router; the rest comes from the folder.
 */
export async function serve(port, router = LOCAL_ROUTER, folder = new URL("dist/", import.meta.url)) {
  const { html, policy } = await documentFor(router);
  const headers = {
    // A page cannot say in its own document who may frame it, only its server can.
    "content-security-policy": `${policy}; frame-ancestors 'none'`,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
  };
  const server = createServer(async (request, response) => {
    const name = request.url.replace(/[?#].*/, "").slice(1) || "index.html";
    const body = name === "index.html" ? html : FILES.has(name) && (await content(new URL(name, folder)));
    if (!body) return void response.writeHead(404, headers).end();
    response.writeHead(200, { ...headers, "content-type": TYPES[extname(name)] }).end(body);
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return server;
}

/** What is in the file, and nothing when it is not there: `dist/` is made by `npm run build`. */
async function content(file) {
  try {
    return await readFile(file);
  } catch {
    return undefined;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await serve(8080, process.env.CONSILIUM_ROUTER);
  console.log("http://localhost:8080");
}
