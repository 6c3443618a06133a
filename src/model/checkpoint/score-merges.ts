// Score-ranked vocabularies (SentencePiece BPE, llama2.c) as the ordered merges a tokenizer.json wants.
// Zone: edge and owner. The original merges the adjacent pair whose joined piece has the best score, so every split of a piece
// into two pieces is a merge with that piece's rank.

export interface ScoredPiece {
  readonly text: string;
  readonly score: number;
}

/** `pieces` are those that may be joined: no control, unknown or byte tokens. Equal scores keep the order of the vocabulary. */
export function scoreMerges(pieces: readonly ScoredPiece[]): [string, string][] {
  const known = new Set(pieces.map((piece) => piece.text));
  const pairs: [string, string][] = [];
  for (const { text } of [...pieces].sort((a, b) => b.score - a.score)) {
    const characters = Array.from(text);
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join('');
      const right = characters.slice(cut).join('');
      if (known.has(left) && known.has(right)) pairs.push([left, right]);
    }
  }
  return pairs;
}
