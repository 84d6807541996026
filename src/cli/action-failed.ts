/** An error of a command that acts, with what the exit code depends on: whether anything had been changed by then. */
export class ActionFailed extends Error {
  readonly begun: boolean;
  constructor(cause: unknown, begun: boolean) {
    super("an action failed", { cause });
    this.name = "ActionFailed";
    this.begun = begun;
  }
}
