/** Lines about the Secret that is delivered to: 3, 7. */
import { writeFileSync } from "node:fs";
import { type SecretEstate, type SecretOptions, secretName } from "../kubernetes/secret-estate.ts";
import { type Act, closed, type Expected, held, type Scene } from "../scene.ts";

type SecretScene = Scene<SecretEstate, SecretOptions>;

const changed = "another controller changed the object";
const refusedBefore = (code: string, words: RegExp): Expected => ({ result: "error", code, words });
const done = closed("SUPERSEDED");

/** Deletes it and makes it anew, with the old pair. */
async function anew(estate: SecretEstate): Promise<void> {
  await estate.kubectl("delete", "secret", secretName, "--ignore-not-found");
  await estate.apply(estate.secretOf());
}

export const secretMissing: SecretScene = {
  ...{ line: 3, name: "k8s secret-renamed", fault: changed },
  how: "the Secret is no longer there: somebody made one of another name instead",
  acts: (estate) => [
    {
      title: "fault",
      async change() {
        await estate.apply(estate.secretOf(`${secretName}-v2`));
        await estate.kubectl("delete", "secret", secretName);
      },
      expect: refusedBefore("input", /shop-tls-v2/),
    },
    { title: "made again", change: () => anew(estate), expect: done },
  ],
};

export const secretImmutable: SecretScene = {
  ...{ line: 3, name: "k8s secret-immutable", fault: changed },
  how: "somebody made the Secret immutable",
  acts: (estate) => [
    {
      title: "fault",
      async change() {
        await estate.kubectl("patch", "secret", secretName, "-p", '{"immutable":true}');
      },
      expect: refusedBefore("refused", /immutable/),
    },
    { title: "made anew", change: () => anew(estate), expect: done },
  ],
};

export const secretOwned: SecretScene = {
  ...{ line: 3, name: "k8s secret-owned", fault: changed },
  how: "cert-manager writes the same keys of the Secret",
  acts: (estate) => [
    {
      title: "fault",
      async change() {
        await estate.kubectl("delete", "secret", secretName);
        const file = estate.workspace.path("cert-manager.json");
        writeFileSync(file, JSON.stringify(estate.secretOf()), { mode: 0o600 });
        await estate.kubectl("create", "-f", file, "--field-manager=cert-manager-certificates-issuing");
      },
      expect: refusedBefore("refused", /cert-manager/),
    },
    { title: "taken over", change: () => estate.write(", takeOver: true"), expect: done },
  ],
};

export const secretPutBack: SecretScene = {
  ...{ line: 3, name: "k8s secret-held", fault: changed },
  how: "the server mounts it by subPath and is replaced while that holds the rotation; then a controller writes the old pair back",
  estate: (faulty) => ({ subPath: faulty }),
  acts: (estate): Act[] => {
    let fresh = "";
    return [
      { title: "held before", expect: held(estate.pod.address) },
      {
        title: "fault",
        async change() {
          fresh = await estate.kubectl("get", "secret", secretName, "-o", "jsonpath={.data}");
          await estate.pod.replace();
          const { data } = estate.secretOf() as { data: object };
          await estate.kubectl("patch", "secret", secretName, "-p", JSON.stringify({ data }));
        },
        expect: held(`/${secretName}`),
      },
      {
        title: "put right",
        async change() {
          await estate.kubectl("patch", "secret", secretName, "-p", `{"data":${fresh}}`);
        },
        expect: done,
      },
    ];
  },
};
