"""When weighing tokens by visual advantage helps: many short runs on the diluted tiny task, in one process each."""
