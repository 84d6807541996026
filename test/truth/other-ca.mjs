// Preloaded with --import: the CA issues something else than it is asked for, as many do. Our own refuses instead, so its
// order is changed on the way in; the module is replaced as it is loaded.
//   TRUTH_CA=lifetime   it limits the lifetime to an hour and says nothing
//   TRUTH_CA=names      it drops the names that were asked for and puts its own
import { registerHooks } from "node:module";

const how = process.env.TRUTH_CA;
delete process.env.TRUTH_CA;

globalThis.truthOrder = (order) =>
  how === "lifetime" ? { ...order, lifetime: 3600_000 } : { ...order, names: ["DNS:default.elsewhere.test"] };

const source = `
  import { openLocalCa as honest } from "SELF?honest";
  export * from "SELF?honest";
  export async function openLocalCa(...given) {
    const ca = await honest(...given);
    return new Proxy(ca, {
      get(_, name) {
        if (name === "issue") return (order, step) => ca.issue(globalThis.truthOrder(order), step);
        const value = ca[name];
        return typeof value === "function" ? value.bind(ca) : value;
      },
    });
  }`;

registerHooks({
  load(url, context, nextLoad) {
    if (!url.endsWith("/src/drivers/local-ca/local-ca.ts")) return nextLoad(url, context);
    return { format: "module", source: source.replaceAll("SELF", url), shortCircuit: true };
  },
});
