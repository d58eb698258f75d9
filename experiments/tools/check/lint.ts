/** A rule of `deno lint`: paths of files come from `fileURLToPath()`, since `pathname` leaves `%20` for a space. */
const plugin: Deno.lint.Plugin = {
  name: "tokenfilter",
  rules: {
    "file-path": {
      create: (context) => ({
        'MemberExpression[property.name="pathname"] > NewExpression[callee.name="URL"]'(node) {
          const [, base] = node.arguments;
          if (base === undefined || context.sourceCode.getText(base) !== "import.meta.url") return;
          context.report({
            node,
            message: "Cannot read a file's path from pathname: use fileURLToPath(url)",
          });
        },
      }),
    },
  },
};

export default plugin;
