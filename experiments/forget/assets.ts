/// <reference lib="dom" />
/** Files of the page: beside it on a site, or within it as base64 where it is one file. */
export async function urlOf(name: string): Promise<string> {
  const own = document.getElementById(`asset-${name}`);
  if (own === null) return name;
  const response = await fetch(`data:${own.dataset["type"]};base64,${own.textContent}`);
  return URL.createObjectURL(await response.blob());
}

/** @throws {Error} If the file is not there. */
export async function bytesOf(name: string): Promise<ArrayBuffer> {
  const response = await fetch(await urlOf(name));
  if (response.ok) return await response.arrayBuffer();
  throw new Error(`Cannot read ${name}: found HTTP status ${response.status}, expected 200`);
}
