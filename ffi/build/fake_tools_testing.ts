/** Stand-ins for the programs that build the CUDA library. */

/** A folder with stand-ins for g++ and for an nvcc of a version, which prints a text for each file. */
export async function fakeTools(
  version: string,
  says: string,
): Promise<{ folder: string; env: Record<string, string> }> {
  const folder = await Deno.makeTempDir();
  const tools = {
    nvcc: `#!/bin/sh
if [ "$1" = --version ]; then echo "Cuda compilation tools, release 13.0, V${version}"; exit 0; fi
unit=link
echo "$*" >> "${folder}/calls"
while [ $# -gt 0 ]; do
  if [ "$1" = -c ]; then unit=$2; fi
  if [ "$1" = -o ]; then echo "$unit" > "$2"; fi
  shift
done
if [ "$unit" = link ] && [ -n "$LINKED" ]; then cp "$LINKED" library; fi
if [ "$unit" = rope/rope.cu ]; then cat "${folder}/says" >&2; fi
`,
    "g++": `#!/bin/sh\necho "fake 1.0"\n`,
  };
  await Deno.mkdir(`${folder}/bin`);
  await Deno.writeTextFile(`${folder}/says`, says);
  for (const [name, text] of Object.entries(tools)) {
    await Deno.writeTextFile(`${folder}/bin/${name}`, text);
    await Deno.chmod(`${folder}/bin/${name}`, 0o755);
  }
  const path = `${folder}/bin:/usr/bin:/bin`;
  return { folder, env: { PATH: path, CUDA_HOME: "", TOKENFILTER_CACHE: `${folder}/cache` } };
}
