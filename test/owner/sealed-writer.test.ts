// Embedding and head, the largest weights, are sealed in tiles: what is asked for is never whole, and the pieces are the weight.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { shieldedPlan, spansOf } from '../../src/model/spans.js';
import type { WeightTile } from '../../src/model/weight-tiles.js';
import type { SegmentWeight } from '../../src/model/weights.js';
import { writeSealedSpan } from '../../src/owner/sealed-writer.js';
import { decodeIndex, openPiece, readDirectory, segmentKey } from '../../src/trusted/lock/sealed-segment.js';
import { temporaryFolder, tinyConfig } from './tiny-model.js';

const config = { ...tinyConfig, hiddenSize: 1024, vocabSize: 3001 };
const bundleKey = new Uint8Array(32).fill(3);

/** Some value for each place of a weight. */
const valueAt = (row: number, column: number): number => Math.fround(Math.sin(row) + column);

/** Tiles of rows of a table, of columns of a matrix. */
async function* tilesOf({ kind, shape }: SegmentWeight, tileBytes: number): AsyncGenerator<WeightTile> {
  const [height, width] = shape as [number, number];
  const byRows = kind === 'table';
  const [length, other] = byRows ? [height, width] : [width, height];
  const step = Math.floor(tileBytes / (4 * other));
  for (let at = 0; at < length; at += step) {
    const count = Math.min(step, length - at);
    const place = byRows
      ? { row: at, column: 0, rows: count, columns: width }
      : { row: 0, column: at, rows: height, columns: count };
    const data = Float32Array.from({ length: place.rows * place.columns }, (_, i) =>
      valueAt(place.row + Math.floor(i / place.columns), place.column + (i % place.columns)),
    );
    assert.ok(data.byteLength <= 8e6);
    yield { ...place, data };
  }
}

test('embedding and head are sealed tile by tile', async (t) => {
  const folder = await temporaryFolder(t);
  const spans = spansOf(shieldedPlan(config.numHiddenLayers, ['embedding', 'head']));
  for (const span of spans.filter(({ place }) => place === 'enclave')) {
    const path = join(folder, `${span.index}.sealed`);
    await writeSealedSpan(path, {
      span,
      config,
      precision: 'float32',
      denseOutputGains: false,
      bundleKey,
      weightOf: () => assert.fail('a weight was asked for whole'),
      tilesOf,
      exitChange: async () => null,
    });
    const bytes = new Uint8Array(await readFile(path));
    const places = readDirectory((offset, length) => bytes.subarray(offset, offset + length));
    const pieceAt = (piece: number): Uint8Array => {
      const { offset, length } = places[piece]!;
      return openPiece(segmentKey(bundleKey, span.index), piece, bytes.subarray(offset, offset + length));
    };
    const stage = decodeIndex(pieceAt(0)).stages[0]!;
    assert.ok(stage.kind === 'embed' || stage.kind === 'head');
    const tiles =
      stage.kind === 'embed'
        ? stage.tiles.map(({ shape, piece }, i) => ({ piece, shape, row: i * stage.tileRows, column: 0 }))
        : stage.tiles.map(({ start, weights }) => ({ ...weights[0]!, row: 0, column: start }));
    assert.equal(tiles.length, 2);
    let covered = 0;
    for (const { piece, shape, row, column } of tiles) {
      const values = new Float32Array(pieceAt(piece).slice().buffer);
      assert.equal(values.length, shape[0]! * shape[1]!);
      for (let i = 0; i < values.length; i += 997)
        assert.equal(values[i], valueAt(row + Math.floor(i / shape[1]!), column + (i % shape[1]!)));
      covered += values.length;
    }
    assert.equal(covered, config.vocabSize * config.hiddenSize);
  }
});
