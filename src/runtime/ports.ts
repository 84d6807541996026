import type { Event } from "../engine/events.ts";
import type { EvidenceStore, Journal } from "../journal/journal.ts";
import type { SecretStore } from "../journal/secret-store.ts";
import type { Clock } from "./clock.ts";
import type { Parties } from "./parties.ts";

/** What the loop needs from the world. Tests hand in the same things wrapped, to stop it at any boundary. */
export interface Ports {
  readonly journal: Journal<Event>;
  readonly evidence: EvidenceStore;
  readonly secrets: SecretStore;
  readonly clock: Clock;
  readonly parties: Parties;
  /** Throws `conflict` or `locked` when this process no longer holds the lineage's lock. */
  readonly stillOurs: () => Promise<void>;
}
