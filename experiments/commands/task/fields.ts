/** Fields of a row or of a file of YAML, whose types are not known yet. */
export type Fields = { readonly [name: string]: unknown };

/** A value in a message. */
export const show = (value: unknown): string => JSON.stringify(value) ?? "nothing";
