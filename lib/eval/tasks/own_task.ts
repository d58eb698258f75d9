/** A task of a user's own, from a file: one at a time, beside those of the list. */
import type { Task } from "../task.ts";

export interface OwnTask {
  readonly task: Task;
  readonly sha256: string;
}

let own: OwnTask | undefined;

/** The task of a user's own, where one was set. */
export function ownTask(): OwnTask | undefined {
  return own;
}

/** Adds one task of a user's own, instead of the last one. Its name is none of the list. */
export function setOwnTask(next: OwnTask | undefined): void {
  own = next;
}
