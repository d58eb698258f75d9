/** The queue's modules, loaded where a queue is asked for: their clients take as much memory as all other code. */

/**
 * Loads one of them. Deno downloads the targets of literal imports before a program starts. An address that is made at
 * run time delays the download of the clients.
 */
const load = (file: string) => import(new URL(file, import.meta.url).href);

export const loadConnection = (): Promise<typeof import("./connection.ts")> => load("connection.ts");
export const loadSubmit = (): Promise<typeof import("./submit.ts")> => load("submit.ts");
export const loadWork = (): Promise<typeof import("./work.ts")> => load("work.ts");
