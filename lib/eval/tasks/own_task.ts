/** Tasks of a user's own, from files, beside those of the list. */
import type { Task } from "../task.ts";

export interface OwnTask {
  readonly task: Task;
  /** SHA-256 of its file. */
  readonly sha256: string;
}

let own: readonly OwnTask[] = [];

/** The tasks of a user's own, in the order of their files. */
export function ownTasks(): readonly OwnTask[] {
  return own;
}

/** Sets the tasks of a user's own, instead of the last ones. Their names are none of the list, and differ. */
export function setOwnTasks(next: readonly OwnTask[]): void {
  own = next;
}
