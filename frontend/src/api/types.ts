/**
 * What the server sends and takes: the records of its JSON.
 *
 * The shapes are those of `schema.ts`, which `npm run types` makes from the server's OpenAPI document; what the
 * document leaves open (a JSON Schema, a kind of picture) is said more closely here.
 */

import type { components } from "./schema";

type Schemas = components["schemas"];
type Refined<Record, Closer> = Omit<Record, keyof Closer> & Closer;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** JSON Schema, as far as a method's parameters use it. */
export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  default?: Json;
  enum?: Json[];
  const?: Json;
  anyOf?: Schema[];
  items?: Schema;
  prefixItems?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  minItems?: number;
  maxItems?: number;
  $ref?: string;
  $defs?: Record<string, Schema>;
}

export type Health = Schemas["Health"];
export type Method = Refined<Schemas["MethodEntry"], { schema: Schema | null }>;
export type TaskEntry = Refined<Schemas["TaskEntry"], { schema: Schema | null }>;
export type Reference = Schemas["Reference"];
export type ModelEntry = Schemas["ModelEntry"];

export type ViewKind =
  "tokens" | "heatmap" | "attention" | "curves" | "bars" | "scatter" | "histogram" | "graph" | "table" | "text";

export type Place = number | string;
export type View = Refined<Schemas["View"], { kind: ViewKind }>;
/** The verdict in words is in a kept result, and not in the record of an explanation. */
export type Check = Refined<Schemas["Check"], { verdict?: string; place?: string }>;
/** `dtype` is NumPy's name of the element type, "string" for text. */
export type ArrayInfo = Refined<Schemas["ArrayInfo"], { attrs: Record<string, Json> }>;
export type ResultSummary = Refined<Schemas["ResultSummary"], { views: View[] }>;
export type ResultRecord = Refined<
  Schemas["ResultRecord"],
  { views: View[]; checks: Check[]; arrays: ArrayInfo[]; provenance: Record<string, Json> }
>;

export interface Page<Item> {
  items: Item[];
  total: number;
}

export type Job = Refined<Schemas["JobRecord"], { spec: Record<string, Json> }>;
export type JobState = Job["state"];
export type MethodJob = Schemas["MethodJob"];
export type ExplainJob = Schemas["ExplainJob"];

/** A candidate for the next token. */
export type Candidate = Schemas["Candidate"];
export type Next = Schemas["Next"];
export type Tokenized = Schemas["Tokenized"];
export type Generated = Schemas["Generated"];

export interface Edit {
  do: string;
  site: string;
  [option: string]: Json;
}

/** The prediction before and after some parts were taken out. */
export interface Ablation {
  before: Candidate[];
  after: Candidate[];
  answer: { token: string; probability_before: number; probability_after: number };
  /** The answer's probability under random sets; null where the model has no other part of the kind. */
  control: { mean: number; low: number; high: number; n: number; outside: boolean } | null;
  do: string;
}

/** The prediction when one edge carries what it does for another text. */
export type EdgeTested = Schemas["EdgeTested"];

/** A paper of the list, and what became of it. */
export type StudyEntry = Schemas["StudyEntry"];
export type StudyClaim = Schemas["ClaimRecord"];
export type StudyRecord = Refined<Schemas["StudyRecord"], { record: Record<string, Json> | null }>;
/** What shows a study: a result without its numbers. */
export type StudyPicture = Refined<
  Schemas["StudyPicture"],
  { views: View[]; checks: Check[]; arrays: ArrayInfo[]; provenance: Record<string, Json> }
>;
