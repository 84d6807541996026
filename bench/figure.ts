/** One figure of ours beside a reference taken in the same run. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly reference: number;
  /** ours / reference: of rates (…/s) above 1 is better, of times and sizes below 1. */
  readonly ratio: number;
  /** What the reference is, where the name does not say it. */
  readonly beside?: string;
}

const round = (value: number, digits: number): number => Number(value.toPrecision(digits));

export function figure(name: string, unit: string, ours: number, reference: number, beside?: string): Figure {
  return {
    name,
    unit,
    ours: round(ours, 4),
    reference: round(reference, 4),
    ratio: round(ours / reference, 3),
    ...(beside === undefined ? {} : { beside }),
  };
}
