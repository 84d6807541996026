import type { Argument, Command, Option } from "commander";

/** What can stand in one place of the command line. */
export type Offer =
  | { readonly kind: "names" | "files" | "directories" | "free" }
  | { readonly kind: "words"; readonly words: readonly string[] };

interface OptionModel {
  readonly flags: readonly string[];
  readonly words: string;
  /** Absent where the option takes no value. */
  readonly value?: Offer;
}

interface CommandModel {
  readonly name: string;
  readonly words: string;
  readonly options: readonly OptionModel[];
  readonly arguments: readonly { readonly offer: Offer; readonly variadic: boolean }[];
}

export interface Model {
  readonly global: readonly OptionModel[];
  readonly commands: readonly CommandModel[];
}

/** The command tree, as far as completions care. */
export function modelOf(root: Command): Model {
  const visible = root.createHelp().visibleCommands(root);
  return {
    global: root.createHelp().visibleOptions(root).map(optionModel),
    commands: visible.map((command) => ({
      name: command.name(),
      words: firstSentence(command.description()),
      options: command.createHelp().visibleOptions(command).map(optionModel),
      arguments: command.registeredArguments.map((argument) => ({
        offer: argumentOffer(argument),
        variadic: argument.variadic,
      })),
    })),
  };
}

const firstSentence = (text: string): string => text.split(/(?<=\.)\s/)[0] ?? text;

function optionModel(option: Option): OptionModel {
  const flags = [option.short, option.long].filter((flag) => flag !== undefined);
  const takes = option.required || option.optional;
  return { flags, words: option.description, ...(takes ? { value: optionOffer(option) } : {}) };
}

function optionOffer(option: Option): Offer {
  if (option.argChoices !== undefined) return { kind: "words", words: option.argChoices };
  if (/<DIR>/.test(option.flags)) return { kind: "directories" };
  if (/<(DIR\|FILE|FILE|PIN)>/.test(option.flags)) return { kind: "files" };
  return { kind: "free" };
}

function argumentOffer(argument: Argument): Offer {
  if (argument.argChoices !== undefined) return { kind: "words", words: argument.argChoices };
  if (/^NAME/.test(argument.name())) return { kind: "names" };
  if (/FILE|TARGET/.test(argument.name())) return { kind: "files" };
  return { kind: "free" };
}

/** Single quotes for a shell; a quote inside leaves and enters them again. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const valued = (options: readonly OptionModel[]): OptionModel[] =>
  options.filter((option) => option.value !== undefined);

/** `-f|--file`, as a pattern of `case`. */
const pattern = (options: readonly OptionModel[]): string => options.flatMap((option) => option.flags).join("|");

export function bashScript(model: Model): string {
  const every = [model.global, ...model.commands.map((command) => command.options)].flat();
  const values = [...new Set(valued(every).flatMap((option) => option.flags))].join("|");
  return `# bash completion for gyre: source <(gyre completion bash)
_gyre_names() {
  "\${COMP_WORDS[0]}" "\${_gyre_files[@]}" __names 2>/dev/null
}
_gyre() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command="" place=0 i
  local _gyre_files=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      -f|--file) ((i++)); ((i < COMP_CWORD)) && _gyre_files+=(-f "\${COMP_WORDS[i]/#\\~/$HOME}") ;;
      ${values}) ((i++)) ;;
      -*) ;;
      *) if [[ -z $command ]]; then command=\${COMP_WORDS[i]}; else ((place++)); fi ;;
    esac
  done
  case "$command $prev" in
${bashValues("*", model.global)}${model.commands.map((command) => bashValues(quoted(command.name), command.options)).join("")}  esac
  if [[ $cur == -* ]]; then
    local options=${quoted(flagsOf(model.global))}
    case $command in
${model.commands.map((command) => `      ${command.name}) options+=${quoted(` ${flagsOf(command.options)}`)} ;;`).join("\n")}
    esac
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
    return
  fi
  case $command in
    "") COMPREPLY=($(compgen -W ${quoted(model.commands.map((command) => command.name).join(" "))} -- "$cur")) ;;
${model.commands.map(bashArguments).join("")}  esac
}
complete -F _gyre gyre
`;
}

const flagsOf = (options: readonly OptionModel[]): string => options.flatMap((option) => option.flags).join(" ");

function bashOffer(offer: Offer): string {
  switch (offer.kind) {
    case "names":
      return `COMPREPLY=($(compgen -W "$(_gyre_names)" -- "$cur"))`;
    case "files":
      return `compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur"))`;
    case "directories":
      return `compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur"))`;
    case "words":
      return `COMPREPLY=($(compgen -W ${quoted(offer.words.join(" "))} -- "$cur"))`;
    case "free":
      return ":";
    default:
      return offer satisfies never;
  }
}

const bashValues = (command: string, options: readonly OptionModel[]): string =>
  valued(options)
    .map(
      (option) =>
        `    ${option.flags.map((flag) => `${command}" ${flag}"`).join("|")}) ${bashOffer(option.value!)}; return ;;\n`,
    )
    .join("");

function bashArguments(command: CommandModel): string {
  if (command.arguments.length === 0) return "";
  const places = command.arguments.map(
    (argument, index) => `${argument.variadic ? "*" : index}) ${bashOffer(argument.offer)} ;;`,
  );
  return `    ${command.name}) case $place in ${places.join(" ")} esac ;;\n`;
}

export function zshScript(model: Model): string {
  return `#compdef gyre
# zsh completion for gyre: gyre completion zsh > a directory of $fpath, as _gyre
_gyre_names() {
  local -a names files
  local i
  for ((i = 2; i < CURRENT; i++)); do
    [[ $words[i] == (-f|--file) ]] && files+=(-f \${words[i+1]/#\\~/$HOME})
  done
  names=(\${(f)"$($words[1] $files __names 2>/dev/null)"})
  compadd -a names
}
_gyre() {
  local -a commands options
  local command="" i place=0
  commands=(
${model.commands.map((command) => `    ${quoted(`${command.name}:${command.words}`)}`).join("\n")}
  )
  for ((i = 2; i < CURRENT; i++)); do
    case $words[i] in
      ${[...new Set(valued([model.global, ...model.commands.map((command) => command.options)].flat()).flatMap((option) => option.flags))].join("|")}) ((i++)) ;;
      -*) ;;
      *) if [[ -z $command ]]; then command=$words[i]; else ((place++)); fi ;;
    esac
  done
  case $words[CURRENT-1] in
${zshValues(model.global)}  esac
  case $command in
${model.commands.map((command) => (valued(command.options).length === 0 ? "" : `    ${command.name}) case $words[CURRENT-1] in\n${zshValues(command.options)}    esac ;;\n`)).join("")}  esac
  if [[ $words[CURRENT] == -* ]]; then
    options=(${zshFlags(model.global)})
    case $command in
${model.commands.map((command) => `      ${command.name}) options+=(${zshFlags(command.options)}) ;;`).join("\n")}
    esac
    _describe option options
    return
  fi
  case $command in
    "") _describe command commands ;;
${model.commands.map(zshArguments).join("")}  esac
}
if [[ $funcstack[1] == _gyre ]]; then _gyre "$@"; else compdef _gyre gyre; fi
`;
}

const zshFlags = (options: readonly OptionModel[]): string =>
  options
    .flatMap((option) => option.flags.map((flag) => quoted(`${flag}:${option.words.replaceAll(":", "\\:")}`)))
    .join(" ");

function zshOffer(offer: Offer): string {
  switch (offer.kind) {
    case "names":
      return "_gyre_names";
    case "files":
      return "_files";
    case "directories":
      return "_files -/";
    case "words":
      return `compadd ${offer.words.map(quoted).join(" ")}`;
    case "free":
      return ":";
    default:
      return offer satisfies never;
  }
}

const zshValues = (options: readonly OptionModel[]): string =>
  valued(options)
    .map((option) => `    ${pattern([option])}) ${zshOffer(option.value!)}; return ;;\n`)
    .join("");

function zshArguments(command: CommandModel): string {
  if (command.arguments.length === 0) return "";
  const places = command.arguments.map(
    (argument, index) => `${argument.variadic ? "*" : index}) ${zshOffer(argument.offer)} ;;`,
  );
  return `    ${command.name}) case $place in ${places.join(" ")} esac ;;\n`;
}

export function fishScript(model: Model): string {
  const lines = [
    "# fish completion for gyre: gyre completion fish > ~/.config/fish/completions/gyre.fish",
    "function __gyre_names",
    "    set -l tokens (commandline -opc)",
    "    set -l files",
    "    for i in (seq 2 (count $tokens))",
    "        if contains -- $tokens[$i] -f --file; and test $i -lt (count $tokens)",
    "            set -a files -f $tokens[(math $i + 1)]",
    "        end",
    "    end",
    "    $tokens[1] $files __names 2>/dev/null",
    "end",
    "complete -c gyre -f",
    ...model.global.map((option) => fishOption("", option)),
  ];
  const names = model.commands.map((command) => command.name).join(" ");
  for (const command of model.commands) {
    lines.push(
      `complete -c gyre -n ${quoted(`not __fish_seen_subcommand_from ${names}`)} -a ${command.name} -d ${quoted(command.words)}`,
    );
    const when = quoted(`__fish_seen_subcommand_from ${command.name}`);
    for (const option of command.options) lines.push(fishOption(when, option));
    for (const { offer } of command.arguments) {
      const offered = fishOffer(offer);
      if (offered !== "") lines.push(`complete -c gyre -n ${when} ${offered}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function fishOption(when: string, option: OptionModel): string {
  const flags = option.flags
    .map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`))
    .join(" ");
  const value = option.value === undefined ? "" : ` -r ${fishOffer(option.value)}`.trimEnd();
  return `complete -c gyre${when === "" ? "" : ` -n ${when}`} ${flags}${value} -d ${quoted(option.words)}`;
}

function fishOffer(offer: Offer): string {
  switch (offer.kind) {
    case "names":
      return "-a '(__gyre_names)'";
    case "files":
      return "-F";
    case "directories":
      return "-a '(__fish_complete_directories)'";
    case "words":
      return `-a ${quoted(offer.words.join(" "))}`;
    case "free":
      return "";
    default:
      return offer satisfies never;
  }
}
