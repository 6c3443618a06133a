// A small tokenizer and template for tests: characters, " x" pairs and "\n\n" are tokens, so merges across boundaries occur.
import type { DataTemplate } from '../../src/edge/data/chat-spans.js';
import type { DataTokenizer } from '../../src/edge/data/tokenise.js';

const SPECIAL: readonly string[] = ['<s>', '</s>', '<|im_start|>', '<|im_end|>'];
const PIECES = /<s>|<\/s>|<\|im_start\|>|<\|im_end\|>|\n\n| [^\s<]|[\s\S]/gu;

export interface FakeTokenizer extends DataTokenizer {
  text(ids: Iterable<number>): string;
}

export function fakeTokenizer(addsBos: boolean): FakeTokenizer {
  const names: string[] = [...SPECIAL];
  const idOf = (piece: string): number => {
    const known = names.indexOf(piece);
    return known >= 0 ? known : names.push(piece) - 1;
  };
  return {
    bosTokenId: 0,
    eosTokenId: 3,
    specialTokenIds: new Set([0, 1, 2, 3]),
    encode(text, options = {}) {
      const ids = (text.match(PIECES) ?? []).map(idOf);
      return Int32Array.from(addsBos && options.addSpecialTokens !== false ? [0, ...ids] : ids);
    },
    text: (ids) => Array.from(ids, (id) => names[id]).join(''),
  };
}

export const chatml: DataTemplate = {
  render(messages, options = {}) {
    const turns = messages.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`);
    return turns.join('') + (options.addGenerationPrompt === true ? '<|im_start|>assistant\n' : '');
  },
};
