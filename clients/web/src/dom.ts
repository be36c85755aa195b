/** Elements in one expression. Text goes in as text, never as markup: answers come from elsewhere. */

type Child = Node | string | undefined | false;
type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** An element; an attribute that is `undefined` or `false` is left out, one that starts with `--` is a style variable. */
export function h<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("--")) element.style.setProperty(key, String(value));
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== undefined && child !== false));
  return element;
}

/** The content of the document's `<meta>` of this name. @throws Error when the document has none. */
export function meta(name: string): string {
  const element = document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`);
  if (!element) throw new Error(`the page has no <meta name="${name}">`);
  return element.content;
}

/** The element with this id. @throws Error when the document has none: the two belong together. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as E;
}
