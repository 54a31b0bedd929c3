// What a publisher could do better, as a list of sentences.

/** Shows advice in a list, `[{ code, severity, what, remedy }]`. */
export function showAdvice(list, advice) {
  const items = advice.map(({ severity, what, remedy }) => {
    const item = document.createElement("li");
    item.className = severity;
    const sentence = document.createElement("strong");
    sentence.textContent = what;
    item.append(sentence, ` ${remedy}`);
    return item;
  });
  const text = items.map((item) => item.textContent).join("");
  // Unchanged words are left alone: a screen reader would read them again.
  if (list.textContent !== text) list.replaceChildren(...items);
}
