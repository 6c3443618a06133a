// The three functions of the Reflect metadata proposal that @peculiar/x509's container calls. Import this before it.
// A polyfill package would be a dependency for six lines.
const store = new WeakMap<object, Map<unknown, unknown>>();

function own(key: unknown, target: object): unknown {
  return store.get(target)?.get(key);
}

function inherited(key: unknown, target: object): unknown {
  for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at) as object | null) {
    if (store.get(at)?.has(key)) return own(key, at);
  }
  return undefined;
}

Object.assign(Reflect, {
  getMetadata: inherited,
  getOwnMetadata: own,
  defineMetadata(key: unknown, value: unknown, target: object): void {
    store.set(target, (store.get(target) ?? new Map<unknown, unknown>()).set(key, value));
  },
});
