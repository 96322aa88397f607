// Makes and changes elements. Names come from guests and clients: they become text, never markup.

/** An element with these properties (`class`, `title`, `role`, ...) and children. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Changes the text where it is another: what is selected or read aloud stays as it is. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setTone(node, tone) {
  node.classList.remove("good", "warning", "bad", "faint");
  if (tone) node.classList.add(tone);
}

/**
 * Has `parent` hold one element for each item, in their order. One whose key was there before is
 * the element of then: `update` changes what is in it.
 */
export function sync(parent, items, keyOf, create, update) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = before.get(key);
    before.delete(key);
    if (!node) {
      node = create(item);
      node.dataset.key = key;
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
    update?.(node, item);
  }
  for (const gone of before.values()) gone.remove();
}

/** Shows what is below a table instead of it where it has no rows. */
export function showEmpty(table, isEmpty) {
  table.hidden = isEmpty;
  table.parentElement.querySelector(".empty").hidden = !isEmpty;
}
