/** Uses a resource and disposes of it, at the end of a promise too: what `using` does, which Node 22 cannot read. */
export function disposing<R extends Disposable, T>(resource: R, use: (resource: R) => T): T {
  let result: T;
  try {
    result = use(resource);
  } catch (error) {
    resource[Symbol.dispose]();
    throw error;
  }
  if (result instanceof Promise) return result.finally(() => resource[Symbol.dispose]()) as T;
  resource[Symbol.dispose]();
  return result;
}
