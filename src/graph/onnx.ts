// Writes a graph as an ONNX model (protobuf). Weights are references into an external data file, so a model may exceed 2 GB.
// Zone: edge and owner. Format: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
import { create, toBinary } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { MalformedError } from '../trusted/wire/errors.js';
import type { Attribute, Constant, DType, Graph, Value } from './graph.js';

/** Where a weight's bytes lie in the external data file. */
export interface Placement {
  readonly offset: number;
  readonly length: number;
}

const opset = 18n;
const irVersion = 10n;

const dataType: Record<DType, TensorProto_DataType> = {
  float32: TensorProto_DataType.FLOAT,
  int32: TensorProto_DataType.INT32,
  int64: TensorProto_DataType.INT64,
  uint8: TensorProto_DataType.UINT8,
  bool: TensorProto_DataType.BOOL,
};

/**
 * The graph as ONNX bytes. `dataFile` is the external data file's name relative to the model's folder and `placement`
 * says where each weight lies in it. Throws MalformedError naming a weight that has no placement.
 */
export function encodeModel(
  graph: Graph,
  dataFile = '',
  placement: ReadonlyMap<string, Placement> = new Map(),
): Uint8Array {
  const weights = graph.weights.map((weight) => {
    const place = placement.get(weight.name);
    if (!place) throw new MalformedError('weight-unplaced', `weight "${weight.name}" has no place in the data file`);
    return create(TensorProtoSchema, {
      name: weight.name,
      dataType: dataType[weight.dtype],
      dims: (weight.shape as number[]).map(BigInt),
      dataLocation: TensorProto_DataLocation.EXTERNAL,
      externalData: Object.entries({ location: dataFile, offset: `${place.offset}`, length: `${place.length}` }).map(
        ([key, value]) => create(StringStringEntryProtoSchema, { key, value }),
      ),
    });
  });
  const renames = graph.outputs.map(({ name, value }) =>
    create(NodeProtoSchema, { opType: 'Identity', input: [value.name], output: [name], name: `output_${name}` }),
  );
  const { nodes, outputs } = nameOutputs(graph);
  const model = create(ModelProtoSchema, {
    irVersion,
    producerName: 'distillock',
    opsetImport: [
      create(OperatorSetIdProtoSchema, { domain: '', version: opset }),
      create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }),
    ],
    graph: create(GraphProtoSchema, {
      name: 'distillock',
      node: [
        ...nodes,
        // A value that is an input or has two names cannot be renamed in place.
        ...renames.filter((_, i) => !outputs[i]),
      ],
      initializer: [...graph.constants.map(constantProto), ...weights],
      input: graph.inputs.map((value) => valueInfo(value.name, value)),
      output: graph.outputs.map(({ name, value }) => valueInfo(name, value)),
    }),
  });
  return toBinary(ModelProtoSchema, model);
}

// An output that one node produces takes the output's name directly: an Identity would copy the tensor.
function nameOutputs(graph: Graph): { nodes: ReturnType<typeof nodeProto>[]; outputs: boolean[] } {
  const produced = new Set(graph.nodes.flatMap((node) => node.outputs));
  const renamed = new Map<string, string>();
  const outputs = graph.outputs.map(({ name, value }) => {
    if (!produced.has(value.name) || renamed.has(value.name)) return false;
    renamed.set(value.name, name);
    return true;
  });
  const rename = (name: string): string => renamed.get(name) ?? name;
  return { nodes: graph.nodes.map((node, i) => nodeProto(node, i, rename)), outputs };
}

function nodeProto(node: Graph['nodes'][number], index: number, rename: (name: string) => string) {
  return create(NodeProtoSchema, {
    opType: node.opType,
    domain: node.domain,
    name: `${node.opType}_${index}`,
    input: node.inputs.map(rename),
    output: node.outputs.map(rename),
    attribute: Object.entries(node.attributes).map(([name, value]) => attributeProto(name, value)),
  });
}

function attributeProto(name: string, value: Attribute): AttributeProto {
  if (typeof value === 'number')
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) });
  if (typeof value === 'string')
    return create(AttributeProtoSchema, {
      name,
      type: AttributeProto_AttributeType.STRING,
      s: new TextEncoder().encode(value),
    });
  if ('float' in value)
    return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.FLOAT, f: value.float });
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INTS, ints: value.map(BigInt) });
}

function constantProto({ value, data }: Constant) {
  return create(TensorProtoSchema, {
    name: value.name,
    dataType: dataType[value.dtype],
    dims: (value.shape as number[]).map(BigInt),
    rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice(),
  });
}

function valueInfo(name: string, value: Value): ValueInfoProto {
  const dim = value.shape.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value: typeof size === 'number' ? { case: 'dimValue', value: BigInt(size) } : { case: 'dimParam', value: size },
    }),
  );
  const tensorType = create(TypeProto_TensorSchema, {
    elemType: dataType[value.dtype],
    shape: create(TensorShapeProtoSchema, { dim }),
  });
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }),
  });
}
