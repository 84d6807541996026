import type { z } from "zod";
import type { RenewPolicy } from "../engine/renew-policy.ts";
import type { renew } from "./schema.ts";

/** A `renew` section as the engine takes it. `share` is used where it names neither after, before nor every. */
export function policyOf(given: z.output<typeof renew>, share?: number): RenewPolicy {
  const { after, before, every, maxAge, window, windows, freezes, jitter, whenLate } = given;
  const silent = after === undefined && before === undefined && every === undefined;
  const open = windows ?? (window === undefined ? undefined : [window]);
  return {
    ...some({ after: silent ? share : after, before, every, maxAge, jitter, whenLate, windows: open?.map(some) }),
    freezes: freezes.map(some),
  };
}

type Some<T> = { [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined> } & {
  [K in keyof T as undefined extends T[K] ? never : K]: T[K];
};

/** Without the fields that are undefined: an absent field is the one way to say nothing. */
export function some<T extends object>(fields: T): Some<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Some<T>;
}
