// ROUGE-L of an answer against a reference: F1 of the longest common subsequence of words. Zone: edge.
// C.-Y. Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, at sentence level with β = 1, as in Google's
// rouge_score without stemming. Words are runs of letters and digits of any script; rouge_score knows a–z and 0–9 only.

/** Lower-case words of a text. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
}

/** F1 = 2PR/(P + R) with P = LCS/words of the answer and R = LCS/words of the reference; 0 when either has none. */
export function rougeL(answer: string, reference: string): number {
  const [a, b] = [wordsOf(answer), wordsOf(reference)];
  const common = longestCommonSubsequence(a, b);
  // 2PR/(P + R) with both fractions multiplied out.
  return common === 0 ? 0 : (2 * common) / (a.length + b.length);
}

/** Length of the longest subsequence of both; time a·b, memory b. */
export function longestCommonSubsequence(a: readonly string[], b: readonly string[]): number {
  let row = new Uint32Array(b.length + 1);
  for (const word of a) {
    const next = new Uint32Array(b.length + 1);
    for (let j = 1; j <= b.length; j += 1)
      next[j] = word === b[j - 1] ? row[j - 1]! + 1 : Math.max(row[j]!, next[j - 1]!);
    row = next;
  }
  return row[b.length]!;
}
