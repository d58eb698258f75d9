/** The flags of the text that methods which alter the model are fitted on. */

/** Tokens that are used where nothing else is said. */
export const CALIBRATION_TOKENS = 4096;

/** Name, kind, what stands for the value, and help of each. */
export const CALIBRATION_FLAGS: readonly (readonly [
  name: string,
  kind: "text" | "integer",
  value: string,
  help: string,
])[] = [
  [
    "calibration",
    "text",
    "FILE",
    "text that methods which alter the model are fitted on; say of which kind it is by --calibration-domain",
  ],
  [
    "calibration-domain",
    "text",
    "same|other",
    "whether that text is of the judged text's kind; results carry it as a label",
  ],
  [
    "calibration-tokens",
    "integer",
    "N",
    `use the first N tokens of that text alone (${CALIBRATION_TOKENS})`,
  ],
];
