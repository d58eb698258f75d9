/** Completion of command lines by bash and zsh, from the declarations of commands. */
import type { Command } from "./command.ts";
import { allFlags } from "./flags/help.ts";
import type { Flag } from "./flags/flag.ts";

export const SHELLS = ["bash", "zsh"] as const;

/** The names that a flag takes; none where its values are free. */
function valuesOf({ kind, value = "", choices = [] }: Flag): readonly string[] {
  if (kind === "boolean") return ["true", "false"];
  const names = value.replaceAll(/[[\]]/g, "").split("|").filter((name) => /^[a-z][\w-]*$/.test(name));
  return names.length > 0 ? names : choices.map(({ name }) => name);
}

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** The words that follow a command, and the values of each of its flags, as branches of a shell's `case`. */
function branches(command: Command): string[] {
  const { name, words } = command, flags = Object.entries(allFlags(command));
  const values = flags.flatMap(([flag, declared]) => {
    const names = valuesOf(declared);
    return names.length === 0 ? [] : [`    ${quote(`${name} --${flag}`)}) echo ${quote(names.join(" "))} ;;`];
  });
  const free = flags.filter(([, flag]) => flag.kind !== "switch" && valuesOf(flag).length === 0);
  const files = free.map(([flag]) => quote(`${name} --${flag}`)).join("|");
  const rest = [...(words?.choices ?? []).map(({ name }) => name), ...flags.map(([flag]) => `--${flag}`)];
  return [
    ...values,
    ...files === "" ? [] : [`    ${files}) ;;`], // a file or a text of the user's own
    `    ${quote(`${name} `)}*) echo ${quote(rest.join(" "))} ;;`,
  ];
}

/** A script that completes `deno task COMMAND` in a shell. Completion of other commands of Deno stays as it is. */
export function completionScript(commands: readonly Command[], shell: (typeof SHELLS)[number]): string {
  const names = commands.map(({ name }) => name).join(" ");
  const words = `_tokenfilter_words() {
  case "$1 $2" in
${commands.flatMap(branches).join("\n")}
    ' '*) echo ${quote(names)} ;;
  esac
}`;
  return shell === "bash"
    ? `${words}
: "\${_tokenfilter_deno=$(complete -p deno 2>/dev/null | sed -n 's/.*-F \\([^ ]*\\).*/\\1/p')}"
_tokenfilter() {
  if [ "\${COMP_WORDS[1]}" != task ]; then
    [ -z "$_tokenfilter_deno" ] || "$_tokenfilter_deno" "$@"
    return
  fi
  local command=
  [ "$COMP_CWORD" -eq 2 ] || command=\${COMP_WORDS[2]}
  COMPREPLY=($(compgen -W "$(_tokenfilter_words "$command" "\${COMP_WORDS[COMP_CWORD-1]}")" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _tokenfilter deno`
    : `${words}
: "\${_tokenfilter_deno=\${_comps[deno]}}"
_tokenfilter() {
  if [[ \${words[2]} != task ]]; then
    [[ -z $_tokenfilter_deno ]] || $_tokenfilter_deno "$@"
    return
  fi
  local command=
  (( CURRENT == 3 )) || command=\${words[3]}
  local found=(\${=$(_tokenfilter_words "$command" "\${words[CURRENT-1]}")})
  (( \${#found} )) && compadd -- $found || _files
}
compdef _tokenfilter deno`;
}
