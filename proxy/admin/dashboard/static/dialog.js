// The dialog that asks before anything is changed, with a preview by a dry run.

import { h, show } from './dom.js';

let current = 0; // previews of earlier questions are late

/**
 * ask shows what would be done and does it once that is confirmed. A question is
 * {title, intro, fields, preview, confirm, danger, act}: preview(values) resolves
 * to {text, possible, confirm}, what would be done, whether anything, and the
 * button's text; act(values) does it and resolves to a sentence about that.
 * Resolves to the sentence, or to null if nothing was done.
 */
export function ask(question) {
  const dialog = document.getElementById('dialog');
  const mine = ++current;
  let ready = false;
  let busy = false;
  const values = () => Object.fromEntries([...dialog.querySelectorAll('[data-field]')].map(
    (field) => [field.dataset.field, field.type === 'checkbox' ? field.checked : field.value]));
  let label = question.confirm;

  const draw = (preview, error) => {
    show('dialog-body',
      h('h2', { id: 'dialog-title' }, question.title),
      question.intro && h('p', null, question.intro),
      (question.fields ?? []).map(field),
      h('p', { id: 'dialog-preview', class: 'preview', role: 'status' }, preview),
      error && h('p', { class: 'error', role: 'alert' }, error),
      h('p', { class: 'actions' },
        h('button', { type: 'button', id: 'dialog-cancel' }, ready || busy ? 'Cancel' : 'Close'),
        h('button', { type: 'button', id: 'dialog-confirm', class: question.danger ? 'danger solid' : 'solid', disabled: !ready || busy }, busy ? 'Working…' : label)));
  };

  const preview = async () => {
    if (mine !== current) return;
    ready = false;
    draw('Looking what that would do…');
    const asked = JSON.stringify(values());
    try {
      const { text, possible, confirm } = await question.preview(values());
      if (mine !== current || asked !== JSON.stringify(values())) return;
      ready = possible;
      label = confirm ?? question.confirm;
      draw(text);
    } catch (err) {
      if (mine === current) draw('', err.message);
    }
  };

  return new Promise((resolve) => {
    let result = null;
    const confirm = async () => {
      const before = document.getElementById('dialog-preview').textContent;
      busy = true;
      draw(before);
      try {
        result = await question.act(values());
        if (mine === current) dialog.close();
      } catch (err) {
        busy = false;
        if (mine === current) draw(before, err.message);
      }
    };
    const clicked = ({ target }) => {
      if (mine !== current) return;
      if (target.id === 'dialog-cancel') dialog.close();
      if (target.id === 'dialog-confirm' && ready && !busy) confirm();
    };
    // The close event comes after the dialog has closed: by then it may have been
    // opened again, with another question.
    const closed = () => {
      if (mine === current && dialog.open) return;
      dialog.removeEventListener('click', clicked);
      dialog.removeEventListener('close', closed);
      dialog.removeEventListener('input', preview);
      if (mine === current) {
        current += 1;
        show('dialog-body');
      }
      resolve(result);
    };
    dialog.addEventListener('click', clicked);
    dialog.addEventListener('close', closed);
    dialog.addEventListener('input', preview);
    show('dialog-body');
    draw('');
    dialog.showModal();
    document.getElementById('dialog-cancel').focus();
    preview();
  });
}

function field({ name, label, type, options, hint, min }) {
  const id = `field-${name}`;
  const control = options
    ? h('select', { id, 'data-field': name }, options.map(([value, text]) => h('option', { value }, text)))
    : h('input', { id, 'data-field': name, type, min, inputmode: type === 'number' && 'numeric', placeholder: hint });
  return h('p', { class: type === 'checkbox' ? 'field check' : 'field', 'data-key': name }, h('label', { for: id }, label), control);
}
