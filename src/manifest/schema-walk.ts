import type { z } from "zod";
import type { Path } from "./tree.ts";

type Def = {
  readonly type: string;
  readonly innerType?: z.ZodType;
  readonly in?: z.ZodType;
  readonly options?: readonly z.ZodType[];
  readonly element?: z.ZodType;
  readonly shape?: Record<string, z.ZodType>;
};

/** The object and list schemas behind optional, default, transform and union. */
function bare(schema: z.ZodType): Def[] {
  const def = schema.def as unknown as Def;
  if (def.type === "object" || def.type === "array") return [def];
  if (def.type === "union") return (def.options ?? []).flatMap(bare);
  const inner = def.innerType ?? def.in;
  return inner ? bare(inner) : [];
}

/** Fields that may stand in the mapping at `path`, in the schema's order. */
export function fieldsAt(schema: z.ZodType, path: Path): string[] {
  const found = schemaAt(schema, path);
  return found ? bare(found).flatMap((def) => Object.keys(def.shape ?? {})) : [];
}

/** The schema of the field at `path`, the first one where a union has several. */
export function schemaAt(schema: z.ZodType, path: Path): z.ZodType | undefined {
  let here: z.ZodType[] = [schema];
  for (const part of path)
    here = here.flatMap(bare).flatMap((def) => {
      const next = typeof part === "number" ? def.element : def.shape?.[part];
      return next ? [next] : [];
    });
  return here[0];
}

/** What the field at `path` is for. */
export function descriptionAt(schema: z.ZodType, path: Path): string | undefined {
  const found = schemaAt(schema, path);
  return found && descriptionOf(found);
}

/** A description stands on the field, or on what it wraps. */
export function descriptionOf(schema: z.ZodType): string | undefined {
  if (schema.description !== undefined) return schema.description;
  const def = schema.def as unknown as Def;
  const inner = def.innerType ?? def.in;
  return inner ? descriptionOf(inner) : undefined;
}

export interface Field {
  /** `spec.prove[].tls.addresses`. */
  readonly path: string;
  readonly schema: z.ZodType;
}

/** Every field of a schema, nested ones after the one that holds them. */
export function fieldsOf(schema: z.ZodType, prefix = ""): Field[] {
  return bare(schema).flatMap((def) => {
    if (def.type === "array") return fieldsOf(def.element!, `${prefix}[]`);
    return Object.entries(def.shape ?? {}).flatMap(([name, inner]) => {
      const path = prefix === "" ? name : `${prefix}.${name}`;
      return [{ path, schema: inner }, ...fieldsOf(inner, path)];
    });
  });
}

/** The mappings in which a field of exactly this name may stand, shallow ones first. */
export function ownersOf(schema: z.ZodType, name: string): string[] {
  return fieldsOf(schema)
    .filter(({ path }) => path.endsWith(`.${name}`))
    .map(({ path }) => path.slice(0, -name.length - 1))
    .sort((a, b) => a.split(".").length - b.split(".").length);
}
