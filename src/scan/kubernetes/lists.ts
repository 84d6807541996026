/**
 * Lists of a cluster, page by page: nothing of a page is kept when the next one comes. A list that cannot be read to its
 * end says so; half a list never passes for a whole one.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, type Call, NoAnswer, objectOf, statusOf, tooLarge } from "../../drivers/kubernetes/api.ts";
import { type ErrorFields, GyreError } from "../../errors.ts";

/** What the scan asked of the API server. */
export interface Cost {
  requests: number;
  /** Of replies, as they came over the wire. */
  bytes: number;
  /** Objects listed, by kind. */
  readonly objects: Record<string, number>;
}

/** A reply of this size is handled in some 50 MB of memory; a page is cut to stay below it. */
const aim = 4 * 1024 * 1024;
/** Never read more than this; a page that is larger is asked for in smaller pieces. */
const most = 32 * 1024 * 1024;
/** Objects on a page: the first, which tells how large they are, and the bounds (client-go's own page has 500). */
const sizes = { first: 100, largest: 500 };
/** Seconds before another try. kube-apiserver's own Retry-After for 429 is one second. */
const waits = [1, 2, 4, 8];

export const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/** A list that could not be read to its end. */
export class ListFailed extends GyreError {
  /** Of the API server's answer; absent where none came, or where a part of the list had been read. */
  readonly status: number | undefined;
  constructor(fields: ErrorFields, status?: number) {
    super(fields);
    this.status = status;
  }
}

interface Page<T> {
  readonly items: readonly T[];
  readonly token: string;
}

export class Lists {
  readonly cost: Cost;
  readonly #send: (call: Call) => Promise<Answer>;
  readonly #pause: (milliseconds: number) => Promise<unknown>;
  readonly #signal: AbortSignal;

  constructor(
    send: (call: Call) => Promise<Answer>,
    cost: Cost,
    signal: AbortSignal,
    pause: (milliseconds: number) => Promise<unknown> = (milliseconds) => sleep(milliseconds, undefined, { signal }),
  ) {
    this.#send = send;
    this.cost = cost;
    this.#signal = signal;
    this.#pause = pause;
  }

  /**
   * Pages of objects. @throws ListFailed when a page cannot be had (`permission`, `unreachable`, `input`); its message
   * says how much had been read by then
   */
  async *pages<T>(path: string, what: string, accept?: string): AsyncGenerator<readonly T[]> {
    let [token, limit, seen] = ["", sizes.first, 0];
    do {
      const before = this.cost.bytes;
      let page: Page<T>;
      try {
        page = await this.#page<T>(path, token, limit, accept);
      } catch (error) {
        if (!(error instanceof GyreError) || seen === 0) throw error;
        const { code, message, where = what } = error;
        throw new ListFailed({
          ...{ code, where, cause: error },
          message: `the list of ${what} broke off after ${seen}: ${message}; those after it were not seen`,
        });
      }
      seen += page.items.length;
      const each = (this.cost.bytes - before) / Math.max(1, page.items.length);
      limit = Math.max(1, Math.min(sizes.largest, Math.round(aim / Math.max(1, each))));
      token = page.token;
      yield page.items;
    } while (token !== "");
  }

  async #page<T>(path: string, from: string, limit: number, accept: string | undefined): Promise<Page<T>> {
    let token = from;
    let size = limit;
    for (let tries = 0; ; ) {
      const query = `limit=${size}${token === "" ? "" : `&continue=${encodeURIComponent(token)}`}`;
      const answer = await this.#ask(`${path}${path.includes("?") ? "&" : "?"}${query}`, accept);
      if (answer instanceof NoAnswer && answer.reason === tooLarge && size > 1) {
        size = Math.max(1, Math.floor(size / 8));
        continue;
      }
      // The list grew older than what etcd keeps. The new token goes on behind the last object with what is there now:
      // what was there all the while is not missed (API concepts, "410 Gone" while paging).
      const later = answer instanceof NoAnswer ? undefined : laterToken(answer);
      if (later !== undefined && later !== token) {
        token = later;
        continue;
      }
      if (isPassing(answer) && tries < waits.length) {
        await this.#pause(1000 * (retryAfter(answer) ?? waits[tries]!));
        tries += 1;
        continue;
      }
      if (answer instanceof NoAnswer) throw new ListFailed({ ...fieldsOf(answer), cause: answer });
      return pageOf<T>(answer, path);
    }
  }

  async #ask(path: string, accept: string | undefined): Promise<Answer | NoAnswer> {
    this.#signal.throwIfAborted();
    this.cost.requests += 1;
    try {
      const call = { method: "GET", path, userAgent: "gyre-scan", most, signal: this.#signal } as const;
      const answer = await this.#send(accept === undefined ? call : { ...call, accept });
      this.cost.bytes += answer.bytes;
      return answer;
    } catch (error) {
      this.#signal.throwIfAborted();
      if (error instanceof NoAnswer) return error;
      throw error;
    }
  }
}

const isPassing = (answer: Answer | NoAnswer): boolean =>
  answer instanceof NoAnswer || answer.status === 429 || answer.status >= 500;

function retryAfter(answer: Answer | NoAnswer): number | undefined {
  if (answer instanceof NoAnswer) return undefined;
  const seconds = (statusOf(answer).details as { retryAfterSeconds?: unknown } | undefined)?.retryAfterSeconds;
  return typeof seconds === "number" && seconds > 0 && seconds <= 60 ? seconds : undefined;
}

function laterToken(answer: Answer): string | undefined {
  if (answer.status !== 410) return undefined;
  const token = (answer.body as { metadata?: { continue?: unknown } } | null)?.metadata?.continue;
  return typeof token === "string" && token !== "" ? token : undefined;
}

const fieldsOf = ({ code, message, where, retry }: GyreError): ErrorFields => ({
  ...{ code, message, retry },
  ...(where === undefined ? {} : { where }),
});

function pageOf<T>(answer: Answer, path: string): Page<T> {
  const list = listOf<T>(answer, path);
  // A proxy's page of HTML with status 200 is no empty list.
  if (typeof list !== "object" || list === null || !("items" in list))
    throw new ListFailed({ code: "unreachable", message: `kubernetes: listing ${path}: the answer is no list` });
  return { items: list.items ?? [], token: list.metadata?.continue ?? "" };
}

function listOf<T>(answer: Answer, path: string) {
  try {
    return objectOf<{ items?: readonly T[] | null; metadata?: { continue?: string } } | null>(
      answer,
      `listing ${path.split("?")[0]}`,
    );
  } catch (error) {
    throw error instanceof GyreError ? new ListFailed(fieldsOf(error), answer.status) : error;
  }
}
