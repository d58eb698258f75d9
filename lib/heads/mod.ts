/**
 * The observatory: what the heads of a model see of the past in the dense stream, which rules find the tokens whose
 * attention does little, and tables of decisions that can be taken again.
 * @module
 */
export * from "./collection.ts";
export * from "./report.ts";
export * from "./trace.ts";
