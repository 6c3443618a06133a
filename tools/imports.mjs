// Finds the module specifiers of a TypeScript source, with their lines. Plain JavaScript: the checks run before the build.

/** Static and dynamic imports and re-exports, as { specifier, line }. */
export function importsOf(source) {
  const pattern =
    /(?:^|[;\n])\s*(?:import|export)\b[^'";]*?\bfrom\s*['"]([^'"]+)['"]|(?:^|[;\n])\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;
  return [...source.matchAll(pattern)].map((match) => {
    const specifier = match[1] ?? match[2] ?? match[3];
    const at = match.index + match[0].lastIndexOf(specifier);
    return { specifier, line: source.slice(0, at).split('\n').length };
  });
}
