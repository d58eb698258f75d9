/** The schedule `allocated`: layers whose attention adds little, as the warm-up shows it, take more of the asked ratio. */
import { normalCdf } from "../math/normal.ts";
import type { LayerState } from "./layer.ts";
import { MAX_ALLOCATED } from "./schedule.ts";
import { HOST_SLOT } from "./slots.ts";

const SD_EPS = 0.05;
/** Bisections: the interval is then far below a rounding error. */
const STEPS = 100;

interface LayerOutcomes {
  readonly mean: number;
  readonly sd: number;
}

/** Ratios per layer: clip(Phi((theta - mean) / (sd + 0.05)), 0, 0.97), theta such that their mean is `ratio`, <= 0.97. */
export function allocate(layers: readonly LayerOutcomes[], ratio: number): number[] {
  if (ratio === 0) return layers.map(() => 0);
  const shares = (theta: number) =>
    layers.map(({ mean, sd }) => Math.min(normalCdf((theta - mean) / (sd + SD_EPS)), MAX_ALLOCATED));
  let low = Math.min(...layers.map(({ mean, sd }) => mean - 10 * (sd + SD_EPS)));
  let high = Math.max(...layers.map(({ mean, sd }) => mean + 10 * (sd + SD_EPS)));
  for (let step = 0; step < STEPS; step++) {
    const theta = (low + high) / 2;
    if (shares(theta).reduce((a, b) => a + b) < ratio * layers.length) low = theta;
    else high = theta;
  }
  return shares(high);
}

/** Takes the outcome of the warm-up's next token in. @param counts Whether it counts. */
export function noteOutcome({ numbers }: LayerState, y: number, counts: boolean): void {
  numbers[HOST_SLOT.outcomes]! += 1;
  if (!counts) return;
  const count = numbers[HOST_SLOT.counted]! += 1, distance = y - numbers[HOST_SLOT.outcomeMean]!;
  numbers[HOST_SLOT.outcomeMean]! += distance / count;
  numbers[HOST_SLOT.outcomeSquares]! += distance * (y - numbers[HOST_SLOT.outcomeMean]!);
}

export function outcomesOf({ numbers }: LayerState): LayerOutcomes {
  return {
    mean: numbers[HOST_SLOT.outcomeMean]!,
    sd: Math.sqrt(numbers[HOST_SLOT.outcomeSquares]! / numbers[HOST_SLOT.counted]!),
  };
}
