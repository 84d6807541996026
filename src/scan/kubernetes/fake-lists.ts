/** For tests without a control plane: lists of objects, in pages, of an API server that may refuse. */
import { type Answer, type Call, NoAnswer } from "../../drivers/kubernetes/api.ts";
import { type Cost, Lists } from "./lists.ts";

type Row = Readonly<Record<string, unknown>>;
/** Instead of a page: an answer, or the reason why none came. */
export type Odd = { readonly status: number; readonly body?: unknown } | string;

export class FakeApi {
  /** Objects by the path they are listed at, without query. */
  readonly lists = new Map<string, Row[]>();
  /** Calls as they came, path with query. */
  readonly calls: string[] = [];
  /** Milliseconds waited before tries. */
  readonly waited: number[] = [];
  /** Asked before each answer. */
  odd: (path: string, call: number) => Odd | undefined = () => undefined;
  readonly cost: Cost = { requests: 0, bytes: 0, objects: {} };

  open(signal = new AbortController().signal): Lists {
    return new Lists(
      (call) => this.#answer(call),
      this.cost,
      signal,
      async (milliseconds) => void this.waited.push(milliseconds),
    );
  }

  async #answer(call: Call): Promise<Answer> {
    const odd = this.odd(call.path, this.calls.push(call.path));
    if (typeof odd === "string") {
      const dial = { host: "10.0.0.1", port: 6443, serverName: "kubernetes", credential: {} };
      throw new NoAnswer(dial, call, odd, true);
    }
    if (odd !== undefined) return { status: odd.status, body: odd.body ?? {}, bytes: 10 };
    const [path = "", query = ""] = call.path.split("?");
    const rows = this.lists.get(path);
    if (rows === undefined) return { status: 404, body: { message: "the server could not find it" }, bytes: 10 };
    const asked = new URLSearchParams(query);
    const chosen = rows.filter((row) => selects(asked.get("fieldSelector") ?? "", row));
    const from = Number(asked.get("continue")?.replace(/\D+/g, "") ?? 0);
    const to = from + Number(asked.get("limit"));
    const body = { items: chosen.slice(from, to), metadata: to < chosen.length ? { continue: `at-${to}` } : {} };
    return { status: 200, body, bytes: JSON.stringify(body).length };
  }
}

function selects(selector: string, row: Row): boolean {
  const [, field, operator, value] = /^([^!=]+)(!?=)(.*)$/.exec(selector) ?? [];
  if (field === undefined) return true;
  const own = field === "type" ? row.type : (row.metadata as { name?: string }).name;
  return (own === value) === (operator === "=");
}
