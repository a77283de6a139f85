import { $ } from "./shared.js";
import { api, t } from "./station.js";

const words = ({ status, wait, message }) => (status === 401 ? t("wrong_login") : status === 429 ? t("locked_login", { wait }) : message);

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api("POST", "/v1/login", { name: $("name").value, password: $("password").value });
    location.assign("/");
  } catch (error) {
    $("problem").textContent = words(error);
    $("password").value = "";
    $("password").focus();
  }
});
