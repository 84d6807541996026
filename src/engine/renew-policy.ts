import type { Instant, Millis } from "./model.ts";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
export type Weekday = (typeof weekdays)[number];

/**
 * When changes may happen. Read as the clock on the wall of `zone` shows it: an instant is inside when the local
 * time lies in [from, to), so a night when clocks change makes the window shorter, longer, absent, or come twice.
 */
export interface MaintenanceWindow {
  /** Days on which the window starts; absent: every day. */
  readonly days?: readonly Weekday[];
  /** `HH:MM`. */
  readonly from: string;
  /** `HH:MM` or `24:00`; a time before `from` is on the next day. */
  readonly to: string;
  /** IANA name, `Europe/Berlin`. */
  readonly zone: string;
}

/**
 * When nothing may change. Dates are whole days, both included; date-times are local to `zone` unless they carry
 * an offset, and `to` is then excluded. Without `to` it never ends, which `checkPolicy` refuses.
 */
export interface Freeze {
  readonly from: string;
  readonly to?: string;
  readonly zone: string;
}

/** When a credential is renewed. At most one of `after`, `before`, `every`; none means the default lead. */
export interface RenewPolicy {
  /** Share of the life (or of `maxAge`, for things that never expire) after which it is due: 0.66. */
  readonly after?: number;
  /** Fixed lead before notAfter. */
  readonly before?: Millis;
  /** Cadence, counted from the issue. */
  readonly every?: Millis;
  /** Hard limit of the age, counted from the issue. */
  readonly maxAge?: Millis;
  readonly windows?: readonly MaintenanceWindow[];
  readonly freezes?: readonly Freeze[];
  /** Share of the life (or of the cadence) by which a date may be drawn forward, so that a fleet spreads. Default 0. */
  readonly jitter?: number;
  /**
   * What happens when little life is left and no window comes before the end; see `due`. Default `rotate`.
   */
  readonly whenLate?: "rotate" | "hold";
}

/** Half-open stretch of time. `end` may be Infinity. */
export interface Span {
  readonly start: Instant;
  readonly end: Instant;
}

/** Something wrong with a policy: errors keep a plan from being made, warnings are shown. */
export interface PolicyProblem {
  readonly level: "error" | "warning";
  /** Where in the policy: `windows[0].zone`. */
  readonly field: string;
  readonly message: string;
  /** What to change. */
  readonly next: string;
}
