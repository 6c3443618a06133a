// safetensors: vectors, round trips, truncation at every byte, bit flips, shards, and what happens when writing fails.

import assert from 'node:assert/strict';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { indexFileName, openSafetensors, openShardedSafetensors } from '../../src/model/checkpoint/safetensors.js';
import { parseHeader, parseHeaderLength, type StoredTensor } from '../../src/model/checkpoint/safetensors-header.js';
import { type TensorToWrite, writeSafetensors, writeShards } from '../../src/model/checkpoint/safetensors-writer.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import { failsWith, inTemporaryFolder } from './fixtures.js';

function tensor(name: string, shape: number[], values: Float32Array): TensorToWrite {
  return { name, shape, read: () => values };
}

const sample = [
  tensor('b.weight', [2, 3], Float32Array.of(1, -2, 3.5, 0, 5, 6)),
  tensor('a', [2], Float32Array.of(0.1, 1e-8)),
];

function encode(header: unknown, data: Uint8Array = new Uint8Array()): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json, data]);
}

function parse(bytes: Buffer): StoredTensor[] {
  const length = parseHeaderLength(bytes.subarray(0, 8), bytes.length, 'x.safetensors');
  return parseHeader(bytes.subarray(8, 8 + length), bytes.length, 'x.safetensors');
}

test('reads a file laid out by hand', async () => {
  await inTemporaryFolder(async (folder) => {
    const file = join(folder, 'hand.safetensors');
    const data = Buffer.from([0x00, 0x3c, 0x00, 0xc0, 0x80, 0x3f]);
    const header = {
      h: { dtype: 'F16', shape: [2], data_offsets: [0, 4] },
      b: { dtype: 'BF16', shape: [1, 1], data_offsets: [4, 6] },
    };
    await writeFile(file, encode(header, data));
    const source = await openSafetensors(file);
    assert.deepEqual(await source.read('h'), Float32Array.of(1, -2));
    assert.deepEqual(await source.read('b'), Float32Array.of(1));
    assert.deepEqual(source.info('b'), { name: 'b', shape: [1, 1], dtype: 'BF16' });
    await assert.rejects(source.read('none'), failsWith('tensor-missing', file, 'none'));
    await source.close();
  });
});

test('what is written is read back, in every format', async () => {
  const shapes = fc.array(fc.array(fc.nat({ max: 5 }), { maxLength: 3 }), { minLength: 1, maxLength: 5 });
  await inTemporaryFolder(async (folder) => {
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.constantFrom('F32' as const, 'F16' as const, 'BF16' as const),
        async (list, dtype) => {
          const tensors = list.map((shape, i) => {
            const size = shape.reduce((product, extent) => product * extent, 1);
            return tensor(
              `t${i}`,
              shape,
              Float32Array.from({ length: size }, (_, j) => (j - 2) / 4),
            );
          });
          const file = join(folder, 'm.safetensors');
          await writeSafetensors(file, tensors, dtype);
          const source = await openSafetensors(file);
          for (const { name, shape, read } of tensors) {
            assert.deepEqual(source.info(name), { name, shape, dtype });
            const values = await read();
            assert.deepEqual(await source.read(name), values);
            if (shape.length === 0 || values.length === 0) continue;
            const width = values.length / shape[0]!;
            const last = await source.readRows!(name, shape[0]! - 1, 1);
            assert.deepEqual(last, values.subarray(values.length - width));
          }
          await source.close();
        },
      ),
      { numRuns: 40 },
    );
  });
});

test('truncation at every byte is an error', async () => {
  await inTemporaryFolder(async (folder) => {
    const file = join(folder, 'm.safetensors');
    await writeSafetensors(file, sample, 'F32');
    const whole = await readFile(file);
    assert.equal(parse(whole).length, 2);
    for (let length = 0; length < whole.length; length++) {
      assert.throws(
        () => parse(whole.subarray(0, length)),
        failsWith('safetensors-damaged', 'x.safetensors'),
        `${length} bytes`,
      );
    }
    assert.throws(
      () => parse(Buffer.concat([whole, Buffer.alloc(1)])),
      failsWith('safetensors-damaged', 'after its last tensor'),
    );
  });
});

test('a bit flip in the header is an error or changes nothing but names and words of the same size', async () => {
  await inTemporaryFolder(async (folder) => {
    const file = join(folder, 'm.safetensors');
    await writeSafetensors(file, sample, 'F32');
    const whole = await readFile(file);
    const headerEnd = 8 + Number(whole.readBigUInt64LE());
    let refused = 0;
    for (let bit = 0; bit < headerEnd * 8; bit++) {
      const flipped = Buffer.from(whole);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      try {
        const bytes = parse(flipped).reduce((sum, { length }) => sum + length, 0);
        assert.equal(bytes, 32);
      } catch (error) {
        assert.ok(error instanceof DistillockError, String(error));
        refused++;
      }
    }
    assert.ok(refused > headerEnd * 4, `${refused} of ${headerEnd * 8}`);
  });
});

test('headers that lie are refused by name', () => {
  const f32 = (shape: unknown, offsets: unknown): unknown => ({ dtype: 'F32', shape, data_offsets: offsets });
  const cases: [unknown, number, string][] = [
    ['[]', 0, 'not a JSON object'],
    ['{"a":', 0, 'not JSON'],
    [{ a: 1 }, 0, '"a"'],
    [{ a: { dtype: 'F33', shape: [1], data_offsets: [0, 4] } }, 4, 'F33'],
    [{ a: f32([1.5], [0, 6]) }, 6, 'shape'],
    [{ a: f32([-1], [0, 4]) }, 4, 'shape'],
    [{ a: f32([2], [0, 4]) }, 4, 'takes 8'],
    [{ a: f32([1], [4, 0]) }, 4, 'data_offsets'],
    [{ a: f32([1], [4, 8]) }, 8, 'gap'],
    [{ a: f32([1], [0, 4]), b: f32([1], [2, 6]) }, 6, 'overlap'],
    [{ a: f32([2], [0, 8]) }, 4, 'inside tensor "a"'],
    [{ __metadata__: { format: 1 } }, 0, '__metadata__'],
  ];
  for (const [header, size, word] of cases) {
    assert.throws(() => parse(encode(header, new Uint8Array(size))), failsWith('safetensors-damaged', word));
  }
  assert.throws(() => parseHeaderLength(Buffer.alloc(8, 0xff), 100, 'x'), failsWith('safetensors-damaged', 'claims'));
});

test('an integer tensor is listed but not read', async () => {
  await inTemporaryFolder(async (folder) => {
    const file = join(folder, 'i.safetensors');
    await writeFile(file, encode({ i: { dtype: 'I64', shape: [1], data_offsets: [0, 8] } }, new Uint8Array(8)));
    const source = await openSafetensors(file);
    await assert.rejects(source.read('i'), failsWith('dtype-unsupported', file, '"i"', 'I64'));
    await source.close();
  });
});

test('shards: written, indexed, read; a missing or truncated shard is named', async () => {
  await inTemporaryFolder(async (folder) => {
    await writeShards(folder, sample, 'F32', 24);
    const names = (await readdir(folder)).sort();
    assert.deepEqual(names, ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', indexFileName]);
    const index = join(folder, indexFileName);
    const source = await openShardedSafetensors(index);
    assert.deepEqual(await source.read('a'), await sample[1]!.read());
    assert.deepEqual(await source.read('b.weight'), await sample[0]!.read());
    await source.close();
    assert.equal(JSON.parse(await readFile(index, 'utf8')).metadata.total_size, 32);

    const second = join(folder, names[1]!);
    const bytes = await readFile(second);
    await truncate(second, bytes.length - 1);
    await assert.rejects(openShardedSafetensors(index), failsWith('safetensors-damaged', second, '"a"'));
    await rm(second);
    await assert.rejects(openShardedSafetensors(index), failsWith('shard-missing', second, index));
    await writeFile(index, JSON.stringify({ weight_map: { a: '../elsewhere.safetensors' } }));
    await assert.rejects(openShardedSafetensors(index), failsWith('index-invalid', index, 'a'));
    await writeFile(index, JSON.stringify({ weight_map: { other: names[0] } }));
    await assert.rejects(openShardedSafetensors(index), failsWith('tensor-missing', names[0]!, 'other'));
  });
});

test('a write that fails half way leaves the old file and no other', async () => {
  await inTemporaryFolder(async (folder) => {
    const file = join(folder, 'm.safetensors');
    await writeSafetensors(file, sample, 'F32');
    const before = await readFile(file);
    const full = (): never => {
      throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    };
    const failing = [sample[0]!, { name: 'a', shape: [2], read: full }];
    await assert.rejects(writeSafetensors(file, failing, 'F32'), failsWith('disk-full', file, 'free some space'));
    await assert.rejects(
      writeSafetensors(file, [tensor('a', [3], new Float32Array(2))], 'F32'),
      failsWith('tensor-shape', '"a"'),
    );
    assert.deepEqual(await readFile(file), before);
    assert.deepEqual(await readdir(folder), ['m.safetensors']);
  });
});
