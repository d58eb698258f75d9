/** JSON as types. */

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** @internal An object of JSON. */
export type JsonObject = { readonly [key: string]: Json };
