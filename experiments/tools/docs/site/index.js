import theme from "vitepress/theme";
import MermaidDiagram from "./MermaidDiagram.vue";
import "./theme.css";

export default { extends: theme, enhanceApp: ({ app }) => app.component("MermaidDiagram", MermaidDiagram) };
