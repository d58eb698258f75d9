/** The space of a search: axes of choices and of numbers, some of which exist only under conditions. */
import type { RandomStream } from "./random_stream.ts";

/** Values of other axes under which an axis is there: of each, one of these. */
export type Condition = { readonly [axis: string]: readonly unknown[] };

interface AxisInfo {
  readonly name: string;
  /** When it is there; always where left out. */
  readonly when?: Condition;
}

/** One of some values, without an order. */
export interface ChoiceAxis extends AxisInfo {
  /** The values, at least one. */
  readonly choices: readonly unknown[];
}

/** A number of a range, ends included. */
export interface NumberAxis extends AxisInfo {
  readonly low: number;
  /** Greatest value, which whole steps lead to. */
  readonly high: number;
  /** Whether ratios count rather than differences. */
  readonly log: boolean;
  /** Distance of neighbouring values; 0 = any number. */
  readonly step: number;
}

export type Axis = ChoiceAxis | NumberAxis;

/** @internal Axes; those that conditions name stand before those that are under them. */
export type SearchSpace = readonly Axis[];

/** Values of the axes that are there. */
export type Point = { readonly [axis: string]: unknown };

/** The state of a trial, for samplers. */
export interface Observation {
  readonly point: Point;
  /** Whether it ended, was stopped early, or is still at work. */
  readonly state: "finished" | "stopped" | "running";
  /** Values of the objectives, to be low; of one that is at work, none. */
  readonly values: readonly number[];
  /** How far it breaks the constraints: 0 = not at all. */
  readonly violation: number;
  /** For a trial that was stopped, the number of chunks that it had read. Its values are of these chunks. */
  readonly step?: number;
}

export const isChoice = (axis: Axis): axis is ChoiceAxis => "choices" in axis;

/** A value as a key: choices may be lists. */
const keyOf = (value: unknown) => typeof value === "bigint" ? String(value) : JSON.stringify(value);

/** Whether an axis is there, next to the values of others. */
export function isActive({ when = {} }: Axis, point: Point): boolean {
  return Object.entries(when).every(([name, values]) =>
    Object.hasOwn(point, name) && values.some((value) => keyOf(value) === keyOf(point[name]))
  );
}

/** A value as a number: the place of a choice, or the number itself. */
export function toNumber(axis: Axis, value: unknown): number {
  if (!isChoice(axis)) return value as number;
  return axis.choices.findIndex((choice) => keyOf(choice) === keyOf(value));
}

/** The value that a number stands for. */
export function fromNumber(axis: Axis, x: number): unknown {
  return isChoice(axis) ? axis.choices[x] : x;
}

/** The range of an axis of numbers with half a step on both sides, in logarithms where those count. */
export function rangeOf({ low, high, step, log }: NumberAxis): readonly [number, number] {
  const ends = [low - step / 2, high + step / 2] as const;
  return log ? [Math.log(ends[0]), Math.log(ends[1])] : ends;
}

/** The nearest value of an axis: without the digits that steps of binary fractions leave, or beyond a millionth of the range. */
export function snap({ low, high, step, log }: NumberAxis, x: number): number {
  const digits = Math.max(0, 6 - Math.floor(Math.log10(high - low)));
  const value = step > 0
    ? Number((low + Math.round((x - low) / step) * step).toPrecision(12))
    : Number(log || digits > 100 ? x.toPrecision(7) : x.toFixed(digits));
  return Math.min(high, Math.max(low, value));
}

/** The value at a fraction of the axis, in [0, 1). */
export function valueAt(axis: Axis, share: number): unknown {
  if (isChoice(axis)) return axis.choices[Math.floor(share * axis.choices.length)];
  const [low, high] = rangeOf(axis), x = low + share * (high - low);
  return snap(axis, axis.log ? Math.exp(x) : x);
}

/** A point whose active axes get values one after the other. */
export function buildPoint(space: SearchSpace, value: (axis: Axis, place: number) => unknown): Point {
  const point: { [axis: string]: unknown } = {};
  for (const [place, axis] of space.entries()) {
    if (isActive(axis, point)) point[axis.name] = value(axis, place);
  }
  return point;
}

export function randomPoint(space: SearchSpace, random: RandomStream): Point {
  return buildPoint(space, (axis) => valueAt(axis, random.uniform()));
}

/** How many values an axis has; Infinity for any number of a range. */
export function countValues(axis: Axis): number {
  if (isChoice(axis)) return axis.choices.length;
  return axis.step === 0 ? Infinity : Math.round((axis.high - axis.low) / axis.step) + 1;
}

/** All values of an axis that has a few. */
export function listValues(axis: Axis): unknown[] {
  if (isChoice(axis)) return [...axis.choices];
  return Array.from({ length: countValues(axis) }, (_, i) => snap(axis, axis.low + i * axis.step));
}
