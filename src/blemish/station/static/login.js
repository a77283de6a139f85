import { $ } from "./shared.js";
import { api } from "./station.js";

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api("POST", "/v1/login", { name: $("name").value, password: $("password").value });
    location.assign("/");
  } catch (error) {
    $("problem").textContent = error.message;
    $("password").value = "";
    $("password").focus();
  }
});
