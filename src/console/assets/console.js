// Copies and refreshes; every page is complete without it.
'use strict';
document.documentElement.classList.add('js');

document.addEventListener('click', async event => {
  const button = event.target.closest('[data-copy]');
  if (button) {
    const pre = button.parentNode.querySelector('pre');
    try {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = 'Copied';
    } catch {
      // Without TLS there is no clipboard.
      getSelection().selectAllChildren(pre);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  }
  if (event.target.closest('[data-refresh]')) {
    event.preventDefault();
    refresh();
  }
});

// In place, so that nothing jumps: what is open stays open, and a reader keeps the place.
async function refresh() {
  let page;
  try {
    const answer = await fetch(location.href, { headers: { 'X-Console': 'refresh' }, cache: 'no-store' });
    if (!answer.ok) return;
    page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  } catch {
    document.documentElement.classList.add('away');
    return;
  }
  document.documentElement.classList.remove('away');
  const open = [...document.querySelectorAll('details')].map(d => d.open);
  const typing = document.activeElement && document.activeElement.closest('input, select, pre');
  if (typing || !getSelection().isCollapsed) return;
  for (const part of ['header.top', 'main']) {
    const now = document.querySelector(part), next = page.querySelector(part);
    if (now && next) now.replaceWith(document.adoptNode(next));
  }
  document.title = page.title;
  document.querySelectorAll('details').forEach((d, i) => { if (open[i]) d.open = true; });
}

const every = Number(document.querySelector('[data-refresh]')?.dataset.refresh);
if (every > 0) setInterval(() => { if (!document.hidden) refresh(); }, every * 1000);
