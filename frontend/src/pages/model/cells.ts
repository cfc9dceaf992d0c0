/** How one number came about, as the server tells it. */

export interface Operand {
  name: string;
  value: number;
  site: string;
}

export interface Term {
  name: string;
  left: number;
  right: number;
  product: number;
}

export interface CellRecord {
  site: string;
  value: number | null;
  formula: string | null;
  why?: string;
  numbers?: string;
  computed?: number;
  operands?: Operand[];
  terms?: Term[];
  count?: number;
  rest?: number;
}

/** The formulas that a bundle's header has, by site. */
export function cellsOf(facts: Record<string, unknown>): Record<string, CellRecord> {
  return (facts["cells"] as Record<string, CellRecord> | undefined) ?? {};
}
